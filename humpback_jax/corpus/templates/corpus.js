// A reason of the legend, pressed, hides or shows the blocks that have it.

const byId = (id) => document.getElementById(id);

for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(shown));
    for (const block of document.querySelectorAll(".block")) {
      if (block.dataset.reason === button.dataset.reason) block.hidden = !shown;
    }
  });
}
