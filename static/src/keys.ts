/** `/` goes to the filter of the page. Never while something is being typed or a guest has the keys. */

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.altKey || event.metaKey) return;
  const target = event.target as Element;
  if (target.closest("input, textarea, select, [contenteditable], [data-keys-to-guest]")) return;
  const filter = document.querySelector<HTMLInputElement>("[data-filter]");
  if (!filter) return;
  event.preventDefault();
  filter.focus();
  filter.select();
});
