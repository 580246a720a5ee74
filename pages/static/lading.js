// What the pages do in the browser besides htmx. Without it they still work; only copying, the progress of uploads and trying samples are lost.
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

// A file is hashed here, so that one which the service has already need not be sent; and sent with its progress shown.
const HASHED_AT_MOST = 256 * 1024 * 1024; // the browser can hash only what it holds in memory as a whole

const digestOf = async (file) => {
  if (!crypto.subtle || file.size > HASHED_AT_MOST) return null;
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
};

const sendForm = (form, data, onProgress) => new Promise((resolve, reject) => {
  const request = new XMLHttpRequest();
  request.open("POST", form.action.split("?")[0]);
  request.setRequestHeader("X-Form-Token", form.dataset.token);
  request.upload.addEventListener("progress", (event) => onProgress(event.loaded / event.total));
  request.addEventListener("load", () => resolve(request));
  request.addEventListener("error", () => reject(new Error("The connection broke off. Send the file again.")));
  request.send(data);
});

const whatItSays = (request) => {
  const said = new DOMParser().parseFromString(request.responseText, "text/html").querySelector("main");
  return said ? said.innerText.trim() : `The service answered ${request.status}.`;
};

const upload = async (form) => {
  const file = form.elements.file.files[0];
  const line = form.querySelector(".progress-line");
  const bar = form.querySelector("progress");
  const data = new FormData(form);
  line.textContent = "Computing the digest ...";
  const digest = await digestOf(file);
  const isKnown = digest && (await (await fetch(form.dataset.known.replace("0".repeat(64), digest))).json()).known;
  if (isKnown) {
    data.delete("file");
    data.set("digest", digest);
  }
  line.textContent = isKnown ? `SHA-256 ${digest}: sent before, so not again` : digest ? `SHA-256 ${digest}` : "Sending ...";
  bar.hidden = false;
  const request = await sendForm(form, data, (part) => { bar.value = part; });
  if (request.status < 400) {
    location.reload();
    return;
  }
  bar.hidden = true;
  line.textContent = whatItSays(request);
};

document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-uploads]");
  if (!form) return;
  event.preventDefault();
  upload(form).catch((error) => { form.querySelector(".progress-line").textContent = error.message; });
});

const chooseByName = (form) => {
  const names = form.elements.name.options;
  const name = form.elements.file.files[0]?.name;
  if (names && Array.from(names).some((option) => option.value === name)) form.elements.name.value = name;
};

document.addEventListener("change", (event) => {
  const form = event.target.closest("[data-uploads]");
  if (form && event.target.type === "file") chooseByName(form);
});

for (const kind of ["dragover", "drop"]) {
  document.addEventListener(kind, (event) => {
    const form = event.target.closest?.("[data-uploads], [data-drops]");
    if (!form) return;
    event.preventDefault();
    if (kind === "dragover" || !event.dataTransfer.files.length) return;
    form.elements.file.files = event.dataTransfer.files;
    if (form.matches("[data-uploads]")) chooseByName(form);
  });
}

// The chart of a run: records read and refused over the seconds.
const draw = (place) => {
  const style = getComputedStyle(place);
  const axis = { stroke: style.color, grid: { stroke: style.borderColor } };
  const line = (label, name) => ({ label, stroke: style.getPropertyValue(name), width: 2, points: { show: false } });
  new uPlot({
    width: place.clientWidth, height: 220, scales: { x: { time: false } }, axes: [axis, { ...axis, size: 80 }],
    series: [{ label: "seconds" }, line("read", "--updated"), line("refused", "--errors")],
  }, JSON.parse(place.dataset.chart), place);
};

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-chart]").forEach(draw));

// Line numbers beside the editor, and the way from a fault to its line.
const number = (editor) => {
  const gutter = editor.previousElementSibling;
  const count = editor.value.split("\n").length;
  gutter.textContent = Array.from({ length: count }, (_, at) => at + 1).join("\n");
  gutter.scrollTop = editor.scrollTop;
};

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-numbered]").forEach((editor) => {
  number(editor);
  editor.addEventListener("input", () => number(editor));
  editor.addEventListener("scroll", () => { editor.previousElementSibling.scrollTop = editor.scrollTop; });
}));

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-goes-to]");
  const editor = document.querySelector("[data-numbered]");
  if (!button || !editor) return;
  const lines = editor.value.split("\n");
  const line = Number(button.dataset.goesTo) - 1;
  const start = lines.slice(0, line).reduce((sum, text) => sum + text.length + 1, 0);
  editor.focus();
  editor.setSelectionRange(start, start + (lines[line] ?? "").length);
});
