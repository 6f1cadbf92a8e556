"use strict";
// The page is whole without this script: it adds a button to each picture, says which
// tables go on to the side, and opens what is folded for the printer.
for (const figure of document.querySelectorAll("figure")) {
  const image = figure.querySelector("img");
  const link = figure.querySelector("a[download]");
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Save PNG";
  button.setAttribute("aria-label", "Save as PNG: " + image.dataset.title);
  button.addEventListener("click", () => {
    const canvas = document.createElement("canvas");
    canvas.width = 3 * image.width;
    canvas.height = 3 * image.height;
    const pen = canvas.getContext("2d");
    // A picture is transparent: on its own it needs the page behind it.
    pen.fillStyle = getComputedStyle(document.body).backgroundColor;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    const shown = new Image();
    shown.onload = () => {
      pen.drawImage(shown, 0, 0, canvas.width, canvas.height);
      const file = document.createElement("a");
      file.href = canvas.toDataURL("image/png");
      file.download = link.download.replace(/svg$/, "png");
      file.click();
    };
    shown.src = image.currentSrc;
  });
  link.after(" ", button);
}
const mark = () => {
  for (const box of document.querySelectorAll(".scroll")) {
    const left = box.scrollWidth - box.clientWidth - box.scrollLeft;
    box.parentElement.classList.toggle("cut", box.scrollWidth > box.clientWidth + 1);
    box.parentElement.classList.toggle("end", left <= 1);
  }
};
for (const box of document.querySelectorAll(".scroll")) box.addEventListener("scroll", mark);
addEventListener("resize", mark);
mark();
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
// A table that was folded has had no width so far.
for (const folded of document.querySelectorAll("details")) folded.addEventListener("toggle", mark);
