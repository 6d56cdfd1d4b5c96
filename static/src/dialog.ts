/** The one dialog: it opens when something was put into it, and is emptied when it closes. */

const dialog = document.querySelector<HTMLDialogElement>("#dialog");

if (dialog) {
  new MutationObserver(() => {
    if (dialog.childElementCount === 0) return;
    if (!dialog.open) dialog.showModal();
    dialog.querySelector<HTMLElement>("[autofocus]")?.focus();
  }).observe(dialog, { childList: true });
  dialog.addEventListener("close", () => dialog.replaceChildren());
  dialog.addEventListener("click", (event) => {
    if (!(event.target as Element).closest("[data-close]")) return;
    event.preventDefault(); // without scripts it is a link back
    dialog.close();
  });
  document.addEventListener("closedialog", () => dialog.close());
}
