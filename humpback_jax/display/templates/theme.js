// Light, dark, or as the system has it; remembered where the browser allows it.

const themeChoice = byId("theme");
const remembered = (() => {
  try { return localStorage.getItem("humpback-theme"); } catch { return null; }
})();

function useTheme(name) {
  if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
  else delete document.documentElement.dataset.theme;
  themeChoice.value = name === "light" || name === "dark" ? name : "system";
}

themeChoice.addEventListener("change", () => {
  useTheme(themeChoice.value);
  try { localStorage.setItem("humpback-theme", themeChoice.value); } catch { /* a private window keeps nothing */ }
});
useTheme(remembered || "system");
