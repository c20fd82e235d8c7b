// The live part of the pages: asks for the progress four times a second and draws what it is told.
// Without it the pages still work: they are rendered on the server and reload themselves while work goes on.
"use strict";

const POLL_MS = 250;
const TOP = 16;
const LANE = 30;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  Object.assign(made, attributes);
  if (text) made.textContent = text;
  return made;
}

function drawn(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

// ---- the form -------------------------------------------------------------------------------------------------------

function helpToChoose(form) {
  const boxes = [...form.querySelectorAll("input[type=checkbox]")];
  const tell = () => {
    byId("chosen").textContent = `${boxes.filter((box) => box.checked).length} of ${boxes.length} chosen`;
  };
  for (const button of form.querySelectorAll("[data-choose]")) {
    button.addEventListener("click", () => {
      for (const box of boxes) box.checked = button.dataset.choose === "all";
      tell();
    });
  }
  form.addEventListener("change", tell);
  tell();
}

// ---- the live view --------------------------------------------------------------------------------------------------

const NOTICE_MS = 6000;
let noticeUntil = 0;
let last = null;
let spokenQuarter = -1;
let ended = false;
let serialWatched = false;

const goesOn = (run) => run.state === "waiting" || run.state === "running";

function showNumbers(now) {
  byId("bar").value = now.share;
  byId("done").textContent = number(now.documents_done);
  byId("rate").textContent = number(now.per_second);
  byId("seconds").textContent = number(now.seconds, 1);
  byId("state").textContent = now.state;
  byId("state").className = `state ${now.state}`;
  const quarter = Math.floor(now.share * 4);
  if (quarter !== spokenQuarter) {
    spokenQuarter = quarter;
    byId("spoken").textContent = `${Math.round(now.share * 100)} percent done`;
  }
}

function showSupervisor(words) {
  byId("supervisor").textContent = words ? `Supervisor ${words}` : "No supervisor";
  byId("supervisor").dataset.alive = words ? "yes" : "no";
  byId("no-supervisor").hidden = Boolean(words);
}

function showBusy(now) {
  const running = now.bars.filter((bar) => bar.state === "running");
  running.sort((one, other) => one.worker.localeCompare(other.worker));
  const items = running.map((bar) => {
    const item = element("li");
    const since = number(now.seconds - bar.begin, 1);
    const again = bar.attempt > 1 ? `, attempt ${bar.attempt}` : "";
    item.append(element("b", {}, bar.worker), ` pid ${bar.pid}, chunk ${bar.chunk}${again}, ${since} s `, element("code", {}, bar.label));
    return item;
  });
  const nobody = now.state === "finished" ? "Nobody: all is done." : now.state === "waiting" ? "Nobody: nothing has begun." : "Nobody at this moment.";
  byId("busy").replaceChildren(...(items.length ? items : [element("li", { className: "quiet" }, nobody)]));
}

function showEvents(now) {
  // Only what is new or changed is touched, so that a screen reader reads each event once.
  const list = byId("events");
  now.events.forEach((event, index) => {
    const at = `${number(event.at, 1)} s`;
    const there = list.children[index];
    if (there && there.lastElementChild.textContent === event.text) return;
    const item = element("li", { className: event.kind });
    item.append(element("time", {}, at), " ", element("span", {}, event.text));
    if (there) there.replaceWith(item);
    else list.append(item);
  });
  while (list.children.length > now.events.length) list.lastElementChild.remove();
}

function drawTimeline(now) {
  const place = byId("timeline");
  const width = Math.max(place.clientWidth, 280);
  const lanes = [...new Set(now.bars.map((bar) => bar.worker))].sort();
  const left = Math.min(Math.max(...lanes.map((lane) => lane.length), 8) * 7 + 8, width * 0.3);
  const height = TOP + Math.max(lanes.length, 1) * LANE + 24;
  const span = Math.max(now.seconds, 1);
  const x = (seconds) => left + (seconds / span) * (width - left - 8);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, height });
  drawScale(svg, span, x, height);
  lanes.forEach((lane, index) => {
    svg.append(drawn("text", { x: 0, y: TOP + index * LANE + 19, class: "name" }, lane.slice(-Math.floor(left / 7))));
    const own = now.bars.filter((bar) => bar.worker === lane).sort((one, other) => one.begin - other.begin);
    own.forEach((bar, nth) => svg.append(...drawBar(bar, nth, TOP + index * LANE + 4, now, x)));
  });
  for (const event of now.events.filter((event) => event.kind === "kill")) {
    svg.append(drawn("line", { x1: x(event.at), x2: x(event.at), y1: 0, y2: height - 20, class: "kill" }));
    const side = x(event.at) > width - 70 ? { x: x(event.at) - 4, "text-anchor": "end" } : { x: x(event.at) + 4 };
    svg.append(drawn("text", { ...side, y: 11, class: "mark" }, "SIGKILL"));
  }
  place.replaceChildren(svg);
}

function drawScale(svg, span, x, height) {
  const step = [0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 3600].find((size) => span / size <= 8) ?? span;
  for (let at = 0; at <= span; at += step) {
    svg.append(drawn("line", { x1: x(at), x2: x(at), y1: TOP, y2: height - 20, class: "grid" }));
    svg.append(drawn("text", { x: x(at), y: height - 6, "text-anchor": at ? "middle" : "start" }, `${at} s`));
  }
}

function drawBar(bar, nth, y, now, x) {
  const end = bar.end ?? now.seconds;
  const kind = bar.state === "finished" && bar.attempt > 1 ? "again" : bar.state;
  const even = nth % 2 ? "" : " even";
  const wide = Math.max(x(end) - x(bar.begin), 2);
  const rect = drawn("rect", { x: x(bar.begin), y, width: wide, height: 22, rx: 2, class: kind + even });
  const told = `chunk ${bar.chunk}, attempt ${bar.attempt}, ${bar.state}, ${number(end - bar.begin, 2)} s: ${bar.label}`;
  rect.append(drawn("title", {}, told));
  if (bar.state !== "lost") return [rect];
  return [rect, drawn("text", { x: x(bar.begin) + wide + 3, y: y + 16, class: "mark" }, "\u2715")];
}

async function showResult(live) {
  const answer = await fetch(live.dataset.result);
  if (!answer.ok) throw new Error(`the result could not be read (${answer.status})`);
  byId("result").innerHTML = await answer.text();
  listen();
}

async function showSerial(serial, live) {
  const line = byId("serial-progress");
  const busy = goesOn(serial);
  const button = document.querySelector("#serial button");
  if (button) button.disabled = busy;
  if (line) {
    line.hidden = !busy;
    line.textContent = busy ? `The serial run has done ${number(serial.documents_done)} of ${number(serial.documents)} documents.` : "";
  }
  if (serialWatched && !busy) await showResult(live);
  serialWatched = busy;
}

async function look(live) {
  const answer = await fetch(live.dataset.url);
  if (!answer.ok) throw new Error(`the site answered ${answer.status}`);
  const now = await answer.json();
  last = now;
  showNumbers(now);
  showSupervisor(now.supervisor);
  showBusy(now);
  showEvents(now);
  drawTimeline(now);
  const kill = byId("kill");
  if (kill) kill.hidden = now.state !== "running";
  if (now.state === "finished" && live.dataset.state !== "finished") await showResult(live);
  live.dataset.state = now.state;
  await showSerial(now.serial, live);
  ended = !goesOn(now) && !goesOn(now.serial);
  if (now.state === "stuck") tell("A chunk has failed for good, so this analysis will not end. See what happened below.");
  else if (Date.now() > noticeUntil) tell("");
}

function tellForAWhile(notice) {
  noticeUntil = Date.now() + NOTICE_MS;
  tell(notice);
}

function tell(trouble) {
  byId("trouble").textContent = trouble;
  byId("trouble").hidden = !trouble;
}

async function watch(live) {
  do {
    try {
      if (!document.hidden) await look(live);
    } catch (problem) {
      tell(`No answer from the site: ${problem.message}. Trying again.`);
    }
    await new Promise((done) => setTimeout(done, POLL_MS));
  } while (!ended);
}

function send(form, then) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const answer = await fetch(form.action, {
        method: "POST", body: new FormData(form), headers: { Accept: "application/json" },
      });
      then(answer.ok ? await answer.json() : { error: answer.status });
    } catch (problem) {
      tellForAWhile(`No answer from the site: ${problem.message}.`);
    } finally {
      button.disabled = false;
    }
  });
}

function listen() {
  const serial = byId("serial");
  const live = byId("live");
  if (!serial || serial.dataset.listening) return;
  serial.dataset.listening = "yes";
  send(serial, () => {
    const asleep = ended;
    ended = false;
    serialWatched = true;
    if (asleep) watch(live);
  });
}

for (const needed of document.querySelectorAll("[data-needs-script]")) needed.hidden = false;
if (byId("start")) helpToChoose(byId("start"));
if (byId("live")) {
  if (byId("kill")) send(byId("kill"), (said) => { if (!said.killed) tellForAWhile("Nothing was killed: no worker was in the middle of a chunk."); });
  listen();
  window.addEventListener("resize", () => { if (last) drawTimeline(last); });
  watch(byId("live"));
}
