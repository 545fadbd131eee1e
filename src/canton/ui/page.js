"use strict";
// The timeline marks the time of the video; a click on it seeks.
document.addEventListener("timeupdate", event => {
  const line = document.querySelector("#timeline .timeline"), video = event.target;
  if (!line || !video.closest("#result")) return;
  line.style.setProperty("--now", 100 * video.currentTime / line.dataset.seconds + "%");
}, true);
document.addEventListener("click", event => {
  const line = event.target.closest("#timeline .timeline"), video = document.querySelector("#result video");
  if (!line || !video) return;
  const box = line.getBoundingClientRect();
  video.currentTime = line.dataset.seconds * (event.clientX - box.left) / box.width;
});

// On a phone the result is below the button: scroll to it.
const RESULTS = { "write": "generated", "score": "scored", "watch": "stage" };
document.addEventListener("click", event => {
  const button = event.target.closest("button"), result = button && document.getElementById(RESULTS[button.id]);
  if (result && result.getBoundingClientRect().bottom > innerHeight)
    setTimeout(() => result.scrollIntoView({ behavior: "smooth", block: "nearest" }), 50);
});

// Keep the end of the generated text in view, unless the visitor scrolled back.
let follow = true;
document.addEventListener("scroll", event => {
  const box = event.target;
  if (box.id === "generated") follow = box.scrollTop + box.clientHeight > box.scrollHeight - 40;
}, true);
new MutationObserver(changes => {
  const box = document.getElementById("generated");
  if (!box || !changes.some(change => box.contains(change.target))) return;
  if (box.scrollHeight <= box.clientHeight) follow = true;
  if (follow) box.scrollTop = box.scrollHeight;
}).observe(document.documentElement, { childList: true, subtree: true, characterData: true });

// The frame of the scored text reports its height.
addEventListener("message", event => {
  const frame = document.querySelector("#scored iframe"), tall = event.data && event.data.canton_height;
  if (frame && event.source === frame.contentWindow && Number.isFinite(tall))
    frame.style.height = Math.max(300, Math.min(tall, 0.8 * innerHeight)) + "px";
});
