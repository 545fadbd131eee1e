"use strict";
// The line on the timeline goes with the film; a click on the timeline goes there in the film.
document.addEventListener("timeupdate", event => {
  const line = document.querySelector("#timeline .timeline"), film = event.target;
  if (!line || !film.closest("#seen")) return;
  line.style.setProperty("--now", 100 * film.currentTime / line.dataset.seconds + "%");
}, true);
document.addEventListener("click", event => {
  const line = event.target.closest("#timeline .timeline"), film = document.querySelector("#seen video");
  if (!line || !film) return;
  const box = line.getBoundingClientRect();
  film.currentTime = line.dataset.seconds * (event.clientX - box.left) / box.width;
});

// On a telephone what is made lies below the button that makes it: go there.
const MADE = { "write": "written", "score": "scored", "watch": "stage" };
document.addEventListener("click", event => {
  const button = event.target.closest("button"), made = button && document.getElementById(MADE[button.id]);
  if (made && made.getBoundingClientRect().bottom > innerHeight)
    setTimeout(() => made.scrollIntoView({ behavior: "smooth", block: "nearest" }), 50);
});

// Text that is being written stays in view, unless somebody scrolled back to read.
let follow = true;
document.addEventListener("scroll", event => {
  const box = event.target;
  if (box.id === "written") follow = box.scrollTop + box.clientHeight > box.scrollHeight - 40;
}, true);
new MutationObserver(changes => {
  const box = document.getElementById("written");
  if (!box || !changes.some(change => box.contains(change.target))) return;
  if (box.scrollHeight <= box.clientHeight) follow = true;
  if (follow) box.scrollTop = box.scrollHeight;
}).observe(document.documentElement, { childList: true, subtree: true, characterData: true });

// The scored text says how tall it is.
addEventListener("message", event => {
  const frame = document.querySelector("#scored iframe"), tall = event.data && event.data.canton_height;
  if (frame && event.source === frame.contentWindow && Number.isFinite(tall))
    frame.style.height = Math.max(300, Math.min(tall, 0.8 * innerHeight)) + "px";
});
