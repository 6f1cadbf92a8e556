"use strict";
// Draws the scatter of each table from the columns that the page holds as numbers.
const PALETTES = {
  light: ["#0067a5", "#c04a00", "#007a58", "#a63d7c", "#3a3f45", "#7d6200", "#5b53c4", "#9c2b2b"],
  dark: ["#5cb8f0", "#ff9a4d", "#35cfa2", "#ee9fcb", "#f2f4f6", "#efd94a", "#aea8ff", "#ff8a80"],
};
// Between these the colours of more than eight ordered levels lie, by lightness.
const ENDS = {
  light: [[59, 15, 92], [51, 80, 143], [26, 125, 123], [86, 154, 58]],
  dark: [[111, 134, 232], [47, 176, 196], [107, 210, 122], [247, 232, 74]],
};
const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const unpacked = (text, Kind) =>
  new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
const short = (value) => {
  if (!isFinite(value)) return "none";
  const size = Math.abs(value);
  if (size && (size < 1e-4 || size >= 1e6)) return value.toExponential(2).replace("e+", "e");
  return Number(value.toPrecision(4)).toString().replace("-", "\u2212");
};
const steps = (low, high, most) => {
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = [1, 2, 5, 10].map((f) => f * power).find((d) => (high - low) / d <= most);
  const places = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++)
    places.push(Number((k * step).toPrecision(12)));
  return places;
};
const decades = (low, high, most) => {
  const places = [];
  const every = Math.max(1, Math.ceil((high - low) / most));
  const within = high - low < 1.2 ? [1, 2, 5] : high - low < 2.5 ? [1, 3] : [1];
  for (let d = Math.floor(low); d <= high; d++)
    for (const f of within) {
      const place = d + Math.log10(f);
      const kept = within.length > 1 || d % every === 0;
      if (kept && place >= low - 1e-9 && place <= high + 1e-9) places.push(place);
    }
  return places.length > 1 ? places : null;
};
const shade = (share, scheme) => {
  const ends = ENDS[scheme];
  const place = share * (ends.length - 1);
  const whole = Math.min(Math.floor(place), ends.length - 2);
  const mixed = ends[whole].map((a, i) =>
    Math.round(a + (place - whole) * (ends[whole + 1][i] - a)));
  return "rgb(" + mixed.join(",") + ")";
};

for (const stage of document.querySelectorAll(".stage")) {
  const record = JSON.parse(document.getElementById(stage.dataset.numbers).textContent);
  const gap = { name: record.gap.name, values: unpacked(record.gap.data, Float32Array) };
  const measures = record.measures.map((m) => ({ name: m.name, data: m.data }));
  if (!measures.length) continue;
  const values = (measure) => (measure.values ??= unpacked(measure.data, Float32Array));
  const groups = record.groups.map((g) => ({ ...g, codes: unpacked(g.data, Uint16Array) }));
  const at = (name) => stage.querySelector("[data-part=" + name + "]");
  const [pickMeasure, pickColour, pickScale] = ["measure", "colour", "scale"].map(at);
  const [canvas, tip, legend, about] = ["canvas", "tip", "legend", "about"].map(at);
  measures.forEach((m, i) => pickMeasure.add(new Option(m.name, i)));
  pickColour.add(new Option("nothing", -1));
  groups.forEach((g, i) => pickColour.add(new Option(g.name, i)));
  if (groups.length) pickColour.value = "0";
  const hidden = new Set();
  let drawn = [];

  // Values that every scale can show, and a function to places between 0 and 1.
  const scaled = (numbers, kind, most, reach = Math.log10) => {
    let low = Infinity, high = -Infinity;
    const able = (v) => isFinite(v) && (kind !== "log" || v > 0);
    for (const v of numbers) if (able(v)) { low = Math.min(low, v); high = Math.max(high, v); }
    if (low > high) return null;
    if (kind === "log") { low = reach(low); high = reach(high); }
    if (low === high) { low -= Math.abs(low) / 2 || 1; high += Math.abs(high) / 2 || 1; }
    const room = 0.04 * (high - low);
    const [from, to] = [low - room, high + room];
    const size = (v) => ((kind === "log" ? reach(v) : v) - from) / (to - from);
    const part = (v) => (kind === "minmax" ? (v - low) / (high - low) : v);
    const logs = kind === "log" ? decades(from, to, most) : null;
    const ticks = logs
      ? logs.map((p) => [short(Number((10 ** p).toPrecision(3))), (p - from) / (to - from)])
      : kind === "minmax"
        ? [0, 0.25, 0.5, 0.75, 1].map((p) => [short(p), (low + p * (high - low) - from) / (to - from)])
        : kind === "log"
          ? [from + room, to - room].map((p) => [short(10 ** p), (p - from) / (to - from)])
          : steps(from, to, most).map((p) => [short(p), size(p)]);
    return { able, size, part, ticks };
  };
  const colours = (group, scheme) =>
    group.levels.map((_, i) =>
      group.ordered && group.levels.length > 8
        ? shade(group.levels.length > 1 ? i / (group.levels.length - 1) : 0, scheme)
        : PALETTES[scheme][i % 8]);

  const draw = () => {
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    const scheme = darkScheme.matches ? "dark" : "light";
    const measure = measures[pickMeasure.value], kind = pickScale.value;
    const group = groups[pickColour.value], x = values(measure);
    const width = canvas.clientWidth, height = canvas.clientHeight, ratio = devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "13px system-ui, sans-serif";
    drawn = [];
    const across = scaled(x, kind, width < 500 ? 4 : 8);
    const up = scaled(gap.values, kind === "minmax" ? "minmax" : "raw", 6);
    if (!across || !up) {
      const why = kind === "log" ? " is positive nowhere; choose another scale." : " has no finite value.";
      about.textContent = measure.name + why;
      legend.replaceChildren();
      return;
    }
    const left = 14 + 18 + Math.max(...up.ticks.map(([text]) => pen.measureText(text).width));
    const box = { left, top: 10, right: width - 12, bottom: height - 46 };
    const px = (share) => box.left + share * (box.right - box.left);
    const py = (share) => box.bottom - share * (box.bottom - box.top);
    pen.strokeStyle = ink("--line");
    pen.fillStyle = ink("--ink");
    pen.lineWidth = 1;
    pen.textAlign = "center";
    let end = -Infinity;
    for (const [text, share] of across.ticks) {
      const place = px(share), half = pen.measureText(text).width / 2;
      pen.beginPath(); pen.moveTo(place, box.top); pen.lineTo(place, box.bottom); pen.stroke();
      // A number that would touch the one before it is left out.
      if (place - half < end + 8 || place + half > width) continue;
      pen.fillText(text, place, box.bottom + 17);
      end = place + half;
    }
    pen.textAlign = "right";
    for (const [text, share] of up.ticks) {
      const place = py(share);
      pen.beginPath(); pen.moveTo(box.left, place); pen.lineTo(box.right, place); pen.stroke();
      pen.fillText(text, box.left - 7, place + 4);
    }
    pen.textAlign = "center";
    const words = { raw: "", log: " (logarithmic)", minmax: " (0 the least, 1 the largest)" };
    pen.fillText(measure.name + words[kind], (box.left + box.right) / 2, height - 8, box.right - box.left);
    pen.save();
    pen.translate(13, (box.top + box.bottom) / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(gap.name + (kind === "minmax" ? words.minmax : ""), 0, 0, box.bottom - box.top);
    pen.restore();
    const palette = group ? colours(group, scheme) : [];
    const many = record.rows > 400, radius = many ? 2.4 : 4;
    pen.globalAlpha = many ? 0.55 : 0.8;
    let left_out = 0;
    for (let row = 0; row < record.rows; row++) {
      if (!across.able(x[row]) || !isFinite(gap.values[row])) { left_out++; continue; }
      if (group && hidden.has(group.codes[row])) continue;
      const place = [px(across.size(x[row])), py(up.size(gap.values[row])), row];
      pen.fillStyle = group ? palette[group.codes[row]] : PALETTES[scheme][0];
      pen.beginPath(); pen.arc(place[0], place[1], radius, 0, 7); pen.fill();
      drawn.push(place);
    }
    pen.globalAlpha = 1;
    const parts = [drawn.length + " of " + record.rows + " networks"];
    if (left_out) parts.push(left_out + " without a value that this scale can show");
    about.textContent = parts.join("; ") + ".";
    listLevels(group, palette);
  };

  const listLevels = (group, palette) => {
    legend.replaceChildren();
    for (const [code, level] of (group ? group.levels : []).entries()) {
      const button = document.createElement("button");
      const dot = document.createElement("i");
      dot.style.background = palette[code];
      button.type = "button";
      button.setAttribute("aria-pressed", String(!hidden.has(code)));
      button.append(dot, level);
      button.addEventListener("click", () => {
        if (!hidden.delete(code)) hidden.add(code);
        draw();
        legend.children[code].focus();
      });
      legend.append(button);
    }
  };

  const point = (event) => {
    const frame = canvas.getBoundingClientRect();
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    let best = null, nearest = 14 ** 2;
    for (const place of drawn) {
      const away = (place[0] - x) ** 2 + (place[1] - y) ** 2;
      if (away < nearest) [nearest, best] = [away, place];
    }
    tip.hidden = best === null;
    if (best === null) return;
    const row = best[2], measure = measures[pickMeasure.value];
    tip.textContent = [
      ...(record.names.length ? [record.names[row]] : []),
      measure.name + " " + short(values(measure)[row]) + ", " + gap.name + " " + short(gap.values[row]),
      groups.map((g) => g.name + " " + g.levels[g.codes[row]]).join(", "),
    ].join("\n");
    const beyond = Math.max(0, Math.min(best[0] + 12, frame.width - tip.offsetWidth - 2));
    tip.style.left = beyond + "px";
    tip.style.top = (best[1] > frame.height / 2 ? best[1] - tip.offsetHeight - 10 : best[1] + 12) + "px";
  };

  stage.hidden = false;
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  // Until the reader chooses a scale, what is positive and spans decades is logarithmic.
  let chosen = false;
  const propose = () => {
    if (chosen) return;
    let low = Infinity, high = -Infinity;
    for (const v of values(measures[pickMeasure.value]))
      if (isFinite(v)) { low = Math.min(low, v); high = Math.max(high, v); }
    pickScale.value = low > 0 && high > 30 * low ? "log" : "raw";
  };
  pickMeasure.addEventListener("change", () => { propose(); draw(); });
  pickScale.addEventListener("change", () => { chosen = true; draw(); });
  pickColour.addEventListener("change", () => { hidden.clear(); draw(); });
  at("save").addEventListener("click", () => {
    const whole = document.createElement("canvas");
    whole.width = canvas.width;
    whole.height = canvas.height;
    const pen = whole.getContext("2d");
    // The drawing is transparent: on its own it needs the page behind it.
    pen.fillStyle = getComputedStyle(document.body).backgroundColor;
    pen.fillRect(0, 0, whole.width, whole.height);
    pen.drawImage(canvas, 0, 0);
    const file = document.createElement("a");
    file.href = whole.toDataURL("image/png");
    file.download = measures[pickMeasure.value].name.replace(/[^a-z0-9]+/gi, "-") + ".png";
    file.click();
  });
  darkScheme.addEventListener("change", draw);
  addEventListener("resize", draw);
  propose();
  draw();
}
