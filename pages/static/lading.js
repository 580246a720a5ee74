// What the pages do in the browser besides htmx. Without it they still work; only copying and the progress of uploads are lost.
"use strict";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // Only pages that came over TLS, or from this machine, may write to the clipboard: the rest is one keystroke.
    getSelection().selectAllChildren(source);
    button.textContent = "Marked: copy it with your keyboard";
  }
});
