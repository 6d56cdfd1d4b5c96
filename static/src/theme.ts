// Runs before the first paint, so that a dark page never flashes white.
{
  const choice = localStorage.getItem("theme");
  const isDark =
    choice === "dark" || (choice !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.bsTheme = isDark ? "dark" : "light";
}
