/** The choice between light, dark and the system's own; theme.ts applies it at the next page. */

const system = matchMedia("(prefers-color-scheme: dark)");

function choice(): string {
  return localStorage.getItem("theme") ?? "system";
}

function apply(): void {
  const chosen = choice();
  const isDark = chosen === "dark" || (chosen === "system" && system.matches);
  document.documentElement.dataset.bsTheme = isDark ? "dark" : "light";
  for (const button of document.querySelectorAll<HTMLElement>("[data-theme-choice]")) {
    button.setAttribute("aria-pressed", String(button.dataset.themeChoice === chosen));
  }
}

document.addEventListener("click", (event) => {
  const button = (event.target as Element).closest<HTMLElement>("[data-theme-choice]");
  if (!button?.dataset.themeChoice) return;
  if (button.dataset.themeChoice === "system") localStorage.removeItem("theme");
  else localStorage.setItem("theme", button.dataset.themeChoice);
  apply();
});
system.addEventListener("change", apply);
window.addEventListener("storage", apply);
apply();
