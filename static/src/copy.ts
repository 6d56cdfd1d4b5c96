/** `data-copy="#id"` copies the text of that element and says so on the button for a moment. */

async function write(text: string): Promise<void> {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without TLS there is no clipboard API; the old way still works.
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

document.addEventListener("click", async (event) => {
  const button = (event.target as Element).closest<HTMLElement>("[data-copy]");
  const source = button && document.querySelector(button.dataset.copy ?? "");
  if (!button || !source) return;
  await write(source.textContent?.trim() ?? "");
  const label = button.querySelector("[data-copied]");
  if (!(label instanceof HTMLElement)) return;
  const before = label.textContent;
  label.textContent = label.dataset.copied ?? "";
  window.setTimeout(() => {
    label.textContent = before;
  }, 1500);
});
