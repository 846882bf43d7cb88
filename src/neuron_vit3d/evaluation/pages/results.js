// A browser holds about 16 drawings in 3D; so few are held here that the page stays light.
const most = 4, shown = [];

async function show(place) {
  if (shown.includes(place)) return;
  if (shown.length >= most) {
    const oldest = shown.shift();
    turning.hide(oldest);
    oldest.replaceChildren(oldest.button);
  }
  shown.push(place);
  place.button.remove();
  const figure = JSON.parse(document.getElementById(place.dataset.figure).textContent);
  const chosen = {type: "scatter3d", mode: "lines", name: "chosen branch", visible: false, hoverinfo: "skip",
    line: {color: "#ffffff", width: 10}, x: [], y: [], z: []};
  figure.data.push(chosen);
  await turning.show(place, figure);
}

async function choose(place, branch) {
  await show(place);
  const path = {x: [], y: [], z: []};
  for (const trace of place._fullData) {
    const own = trace.customdata;
    for (let i = 0; own && i < own.length; i++) {
      if (own[i] === branch) for (const axis of "xyz") path[axis].push(trace[axis][i]);
    }
  }
  const last = place.data.length - 1;
  await Plotly.restyle(place, {x: [path.x], y: [path.y], z: [path.z], visible: true}, [last]);
  place.scrollIntoView({block: "center"});
}

for (const place of document.querySelectorAll(".turning")) {
  place.button = place.querySelector("button");
  place.button.addEventListener("click", () => show(place));
}
for (const table of document.querySelectorAll("table.branches")) {
  const place = table.closest("details").parentElement.querySelectorAll(".turning");
  const own = [...place].filter(one => one.compareDocumentPosition(table) & Node.DOCUMENT_POSITION_FOLLOWING).pop();
  if (!own) continue;
  table.addEventListener("click", event => {
    const row = event.target.closest("tr[data-branch]");
    if (!row) return;
    table.querySelectorAll("tr.chosen").forEach(one => one.classList.remove("chosen"));
    row.classList.add("chosen");
    choose(own, Number(row.dataset.branch));
  });
}
const first = document.querySelector(".turning");
if (first) show(first);
