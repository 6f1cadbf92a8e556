"use strict";
// Draws what the page holds as numbers. All networks share the scale of a quantity.
const drawPage = () => {
  const record = JSON.parse(document.getElementById("numbers").textContent);
  const at = (id) => document.getElementById(id);
  const chosen = { network: 0, quantity: 0, log: false };
  const colour = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const short = (value) => {
    if (value === null || !isFinite(value)) return "not finite";
    return Number(value.toPrecision(4)).toString();
  };
  at("stage").hidden = false;
  for (const [index, quantity] of record.quantities.entries()) {
    at("quantity").add(new Option(quantity.words, index));
  }

  const ends = (quantity) =>
    chosen.log ? [quantity.logLow, quantity.logHigh] : [quantity.low, quantity.high];
  // Heights and colours: decades on a logarithmic axis, whose lower end takes the rest.
  const level = (quantity) => (value) => {
    if (value === null) return null;
    return chosen.log ? Math.log10(Math.max(value, quantity.logLow)) : value;
  };
  const ticks = (low, high) => {
    const places = [];
    for (let decade = Math.floor(low); decade <= Math.ceil(high); decade++) {
      const steps = high - low > 4 ? [1] : high - low > 1.5 ? [1, 3] : [1, 2, 3, 5, 7];
      for (const step of steps) {
        const place = decade + Math.log10(step);
        if (place >= low - 1e-9 && place <= high + 1e-9) places.push(place);
      }
    }
    return {
      tickvals: places,
      ticktext: places.map((place) => short(Number((10 ** place).toPrecision(3)))),
    };
  };

  // Round numbers: those of contours would be the borders of their colours.
  const rounded = (low, high) => {
    if (!(high > low)) return { nticks: 6 };
    const power = 10 ** Math.floor(Math.log10((high - low) / 5));
    const step = [1, 2, 5, 10].map((f) => f * power).find((d) => (high - low) / d <= 6);
    const places = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++)
      places.push(k * step);
    return { tickvals: places, ticktext: places.map((v) => short(Number(v.toPrecision(6)))) };
  };

  const hover = (surface, quantity) => {
    const errors = surface.errors[quantity.name];
    return surface.values[quantity.name].map((row, j) =>
      row.map((value, i) => {
        const known = errors && value !== null && errors[j][i] !== null;
        const error = known ? " ± " + short(errors[j][i]) : "";
        const computed = !surface.computed || surface.computed[j][i];
        const said = computed || value !== null ? short(value) : "not evaluated yet";
        const kind = computed || value === null ? "" : "<br>interpolated";
        return (
          quantity.words + " " + said + error + kind +
          "<br>x " + short(surface.x[i]) + ", y " + short(surface.y[j])
        );
      }),
    );
  };

  // Value at a point between those of the grid; null outside or where one is missing.
  const between = (surface, values, x, y) => {
    const place = (along, to) => {
      if (to < along[0] || to > along[along.length - 1]) return null;
      let index = 0;
      while (index < along.length - 2 && along[index + 1] < to) index++;
      return [index, (to - along[index]) / (along[index + 1] - along[index])];
    };
    const a = place(surface.x, x), b = place(surface.y, y);
    if (!a || !b) return null;
    let sum = 0;
    for (const [j, v] of [[b[0], 1 - b[1]], [b[0] + 1, b[1]]])
      for (const [i, u] of [[a[0], 1 - a[1]], [a[0] + 1, a[1]]]) {
        if (u * v === 0) continue;
        if (values[j][i] === null) return null;
        sum += u * v * values[j][i];
      }
    return sum;
  };

  const marks = (surface, quantity) => {
    const values = surface.values[quantity.name];
    const points = [];
    const base = surface.offBase ? null : between(surface, values, 0, 0);
    if (base !== null) points.push(["base point", 0, 0, base, "cross"]);
    if (surface.lowest) {
      const value = between(surface, values, ...surface.lowest);
      if (value !== null) points.push(["lowest loss", ...surface.lowest, value, "diamond"]);
    }
    return points;
  };

  // Checkpoints, and the way between them along the surface in short steps.
  const STEPS = 16;
  const along = (path, surface, quantity) => {
    const values = surface.values[quantity.name];
    const height = level(quantity);
    const below = (x, y) => height(between(surface, values, x, y));
    const words = path.labels.map(
      (label, t) =>
        path.name + ", " + label +
        (path.loss ? "<br>its own loss " + short(path.loss[t]) : "") +
        (path.away[t] === null
          ? "" : "<br>off the plane by " + short(100 * path.away[t]) + " % of its distance"),
    );
    const way = { x: [], y: [] };
    for (let t = 0; t + 1 < path.x.length; t++)
      for (let s = 0; s <= STEPS; s++)
        for (const axis of ["x", "y"])
          way[axis].push(
            path[axis][t] + (s / STEPS) * (path[axis][t + 1] - path[axis][t]));
    return {
      words, way, wayHeights: way.x.map((x, i) => below(x, way.y[i])),
      heights: path.x.map((x, t) => below(x, path.y[t])),
      shades: path.loss && quantity.ofLoss ? path.loss.map(height) : "#fff",
      sizes: path.away.map((share) => 9 - 5 * Math.min(1, share === null ? 0 : share)),
      x: path.x, y: path.y, name: path.name,
    };
  };

  const onItsGrid = (surface, quantity) => {
    const coarse = surface.grids[quantity.name];
    if (!coarse) return surface;
    return { ...surface, x: coarse[0], y: coarse[1], computed: null };
  };

  const draw = () => {
    const quantity = record.quantities[chosen.quantity];
    const surface = onItsGrid(record.surfaces[chosen.network], quantity);
    const height = level(quantity);
    const [cmin, cmax] = ends(quantity).map(height);
    const z = surface.values[quantity.name].map((row) => row.map(height));
    const text = hover(surface, quantity);
    const ink = colour("--ink"), line = colour("--line"), card = colour("--card");
    const scale = chosen.log ? ticks(cmin, cmax) : rounded(cmin, cmax);
    const bar = { thickness: 12, len: 0.8, outlinewidth: 0, tickfont: { color: ink },
      title: { text: quantity.words, side: "right" }, ...scale };
    const font = { color: ink, family: getComputedStyle(document.body).fontFamily };
    const label = { font: { color: ink }, bgcolor: card, bordercolor: line, align: "left" };
    const axis = { color: ink, gridcolor: line, zerolinecolor: line, nticks: 5 };
    const paths = surface.paths.map((path) => along(path, surface, quantity));
    const points = marks(surface, quantity);
    const narrow = at("solid").clientWidth < 420;
    const shared = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font, hoverlabel: label, showlegend: false,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"),
        activecolor: colour("--accent") } };
    const config = (...buttons) => ({ responsive: true, displaylogo: false,
      displayModeBar: !narrow, modeBarButtons: [buttons] });
    // A line on the surface itself would vanish in it here and there.
    const lift = 0.015 * (cmax - cmin);
    const lifted = (heights) => heights.map((h) => (h === null ? null : h + lift));
    const on = { colorscale: "Viridis", cmin, cmax };

    const solid = [
      { type: "surface", x: surface.x, y: surface.y, z, text, hoverinfo: "text", ...on,
        colorbar: bar, showscale: !narrow,
        lighting: { ambient: 0.55, diffuse: 0.8, specular: 0.1, roughness: 0.9 },
        contours: { z: { show: true, usecolormap: true, project: { z: true } } } },
      ...paths.flatMap((p) => [
        { type: "scatter3d", mode: "lines", ...p.way, z: lifted(p.wayHeights),
          hoverinfo: "skip", line: { color: ink, width: 5 } },
        { type: "scatter3d", mode: "markers", x: p.x, y: p.y, z: lifted(p.heights),
          name: p.name, text: p.words, hoverinfo: "text",
          marker: { ...on, color: p.shades, size: p.sizes.map((s) => s * 0.7),
            line: { color: ink, width: 1 } } }]),
      ...points.map(([name, x, y, value, symbol]) => ({
        type: "scatter3d", mode: "markers", x: [x], y: [y], z: lifted([height(value)]), name,
        text: [name + "<br>" + quantity.words + " " + short(value)], hoverinfo: "text",
        marker: { color: ink, size: 5, symbol, line: { color: card, width: 1 } } })),
    ];
    // The same names of figures keep the angle that the reader has turned them to.
    Plotly.react(at("solid"), solid, { ...shared, uirevision: "turned",
      margin: { l: 0, r: 0, t: 0, b: 0 },
      scene: {
        uirevision: "turned",
        xaxis: { ...axis, title: { text: "x" } }, yaxis: { ...axis, title: { text: "y" } },
        zaxis: { ...axis, title: { text: "" }, range: [cmin, cmax], ...scale },
        aspectmode: "manual", aspectratio: { x: 1, y: 1, z: 0.75 },
        camera: { eye: { x: 1.3, y: -2, z: 1.25 }, center: { x: 0, y: 0, z: -0.12 } } } },
      config("toImage", "resetCameraDefault3d"));

    const size = (cmax - cmin) / 14 || 1;
    const flat = [
      { type: "contour", x: surface.x, y: surface.y, z, text, hoverinfo: "text",
        colorscale: "Viridis", zmin: cmin, zmax: cmax, colorbar: bar,
        connectgaps: false, line: { width: 0.7, color: "rgba(0,0,0,.45)" },
        contours: { start: cmin, end: cmax, size } },
      ...paths.flatMap((p) => [
        ...[["#000", 4], ["#fff", 2]].map(([color, width]) => ({ type: "scatter",
          mode: "lines", x: p.x, y: p.y, hoverinfo: "skip", line: { color, width } })),
        { type: "scatter", mode: "markers", x: p.x, y: p.y, name: p.name,
          text: p.words, hoverinfo: "text",
          marker: { ...on, color: p.shades, size: p.sizes,
            line: { color: "#fff", width: 1.2 } } }]),
      ...points.map(([name, x, y, value, symbol]) => ({
        type: "scatter", mode: "markers", x: [x], y: [y], name, cliponaxis: false,
        text: [name + "<br>" + quantity.words + " " + short(value)], hoverinfo: "text",
        // The mark of the lowest loss stands above the base point where both meet.
        marker: { color: "#fff", size: 10, angle: symbol === "cross" ? 0 : 180,
          symbol: symbol === "cross" ? "cross" : "triangle-up",
          standoff: symbol !== "cross" && x === 0 && y === 0 ? 11 : 0,
          line: { color: "#000", width: 1 } } })),
    ];
    const span = (places) => [places[0], places[places.length - 1]];
    const side = (places) => places[places.length - 1] - places[0];
    const ratio = side(surface.x) / side(surface.y);
    const letters = (name) => name.replace(/^\S+/, "").split(/[,)]/)[0];  // its unit
    const alike = letters(surface.axes[0]) === letters(surface.axes[1]);
    // One unit for both axes, as in the pictures, unless that made a strip.
    const square = alike && ratio <= 3 && ratio >= 1 / 3;
    Plotly.react(at("flat"), flat, { ...shared, uirevision: chosen.network,
      margin: { l: 52, r: 8, t: narrow ? 8 : 30, b: 44 },
      xaxis: { ...axis, title: { text: surface.axes[0] }, range: span(surface.x),
        constrain: "domain" },
      yaxis: { ...axis, title: { text: surface.axes[1] }, range: span(surface.y),
        ...(square ? { scaleanchor: "x", constrain: "domain" } : {}) } },
      config("toImage", "zoom2d", "pan2d", "resetScale2d"));
    at("recipe").textContent = (surface.name ? surface.name + ": " : "") + surface.recipe;
  };

  const turn = (angle) => {
    const eye = at("solid")._fullLayout.scene.camera.eye;
    const [sin, cos] = [Math.sin(angle), Math.cos(angle)];
    const moved = { x: cos * eye.x - sin * eye.y, y: sin * eye.x + cos * eye.y, z: eye.z };
    Plotly.relayout(at("solid"), { "scene.camera.eye": moved });
  };
  const pick = () => {
    const quantity = record.quantities[chosen.quantity];
    at("log").disabled = quantity.logLow === null;
    chosen.log = quantity.log;
    at("log").checked = chosen.log;
  };
  if (at("network"))
    at("network").addEventListener("change", (event) => {
      chosen.network = Number(event.target.value);
      draw();
    });
  at("quantity").addEventListener("change", (event) => {
    chosen.quantity = Number(event.target.value);
    pick();
    draw();
  });
  at("log").addEventListener("change", (event) => {
    chosen.log = event.target.checked;
    draw();
  });
  at("left").addEventListener("click", () => turn(-Math.PI / 8));
  at("right").addEventListener("click", () => turn(Math.PI / 8));
  at("above").addEventListener("click", () =>
    Plotly.relayout(at("solid"), { "scene.camera.eye": { x: 0.01, y: -0.01, z: 2 } }));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  pick();
  draw();
};
// plotly.js is kept compressed, at 0.4 of its size. The policy of the page knows the
// hash of its text. A browser that cannot unpack it shows the pictures alone.
(async () => {
  if (!("DecompressionStream" in window)) return;
  const packed = atob(document.getElementById("plotly").textContent.trim());
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
  drawPage();
})();
