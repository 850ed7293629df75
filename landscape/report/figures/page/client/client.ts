// The script of the report: the reader chooses a checkpoint, a slice, a quantity and a cell, and the page follows. All
// drawings and numbers are in the page's data (page-data.ts); the script shows one drawing, outlines cells in it, and
// writes numbers as text.
import type { PageConversations, PageData, PageMap } from "../page-data.ts";
import { addressOf, readAddress, type Selection } from "./address.ts";
import { conversation } from "./conversations.ts";
import { cellsAsCsv, copyButtons } from "./copy.ts";
import { announce, find, make, unpack } from "./document.ts";
import { outline, pointOfMap, pointOfScatter } from "./highlight.ts";
import { placeOf, readOut, sentenceOf, showTip } from "./reading.ts";
import { themeSwitch } from "./theme.ts";

export async function reportClient(): Promise<void> {
  themeSwitch();
  if (typeof DecompressionStream === "undefined") {
    find<HTMLElement>("#old-browser").hidden = false;
    return;
  }
  const data: PageData = await unpack(find("#data"));
  if (data.maps.length === 0) return;
  const selection: Selection = {
    step: data.maps[data.maps.length - 1].step,
    slice: data.maps[0].slice,
    quantity: "reward",
    hasOwnColours: false,
    cell: { i: Number.NaN, j: Number.NaN },
  };
  /** Index of the point under the pointer, or −1. */
  let hovered = -1;

  const slider = find<HTMLInputElement>("#step");
  const chart = find<HTMLElement>("#map");
  const scatter = find<HTMLElement>("#scatter");
  const tip = make("p", "tip");
  tip.setAttribute("aria-hidden", "true");

  const pointAt = (map: PageMap, i: number, j: number) =>
    map.points.i.findIndex((value, k) => value === i && map.points.j[k] === j);
  /** The chosen map; if a checkpoint was not measured in the chosen slice, the map of its first slice. */
  const current = (): PageMap =>
    data.maps.find(({ step, slice }) => step === selection.step && slice === selection.slice) ??
    data.maps.find(({ step }) => step === selection.step) ??
    data.maps[0];
  /** The chosen point; the checkpoint if nothing was chosen or the chosen cell does not exist. */
  const chosen = (map: PageMap) => {
    const k = pointAt(map, selection.cell.i, selection.cell.j);
    return k >= 0 ? k : Math.max(0, map.origin);
  };

  function mark(): void {
    const map = current();
    outline(chart, map, chosen(map), hovered);
    outline(scatter, map, chosen(map), hovered);
    readOut(map, hovered >= 0 ? hovered : chosen(map));
  }

  // ---- conversations

  const parsed = new Map<PageMap, Promise<PageConversations | null>>();
  function conversationsOf(map: PageMap): Promise<PageConversations | null> {
    const element = document.querySelector(`#conversations-${data.maps.indexOf(map)}`);
    const found = parsed.get(map) ?? (element === null ? Promise.resolve(null) : unpack<PageConversations>(element));
    parsed.set(map, found);
    return found;
  }

  async function showConversations(map: PageMap): Promise<void> {
    const k = chosen(map);
    const list = find("#conversations");
    find("#said-where").textContent = `step ${map.step}, ${placeOf(map, k)}`;
    const said = await conversationsOf(map);
    if (map !== current() || k !== chosen(map)) return; // the reader has gone on meanwhile
    const at = (point: number) =>
      point < 0 ? undefined : said?.cells[`${map.points.i[point]},${map.points.j[point]}`];
    const [here, home] = [at(k), k === map.origin ? undefined : at(map.origin)];
    if (said === null || here === undefined) {
      const why =
        said === null ? "This page has no conversations of this map." : "This page has no conversations of this cell.";
      list.replaceChildren(make("p", "empty", why));
      return;
    }
    list.replaceChildren(
      ...here.map((one, prompt) => conversation(said, one, home?.[prompt], prompt, k === map.origin)),
    );
  }

  // ---- the page follows the selection

  function showMap(map: PageMap): void {
    const index = data.maps.indexOf(map);
    if (selection.quantity === "objective" && !map.hasObjective) selection.quantity = "reward";
    const drawings = data.figures[index];
    const show = (part: Element, name: string) => {
      part.querySelector("figure")?.remove();
      const figure = make("figure", "");
      figure.innerHTML = drawings[name] ?? "";
      part.prepend(figure);
    };
    const own = `map ${selection.quantity} own`;
    show(chart, selection.hasOwnColours && own in drawings ? own : `map ${selection.quantity} shared`);
    show(scatter, "scatter");
    for (const part of document.querySelectorAll<HTMLElement>("[data-panel]")) show(part, part.dataset["panel"] ?? "");
    slider.value = String(data.steps.indexOf(selection.step));
    slider.setAttribute("aria-valuetext", `step ${selection.step}`);
    find("#step-number").textContent = String(selection.step);
    for (const radio of document.querySelectorAll<HTMLInputElement>("input[name=quantity]")) {
      radio.checked = radio.value === selection.quantity;
      if (radio.value === "objective") radio.disabled = !map.hasObjective;
    }
    find<HTMLInputElement>("#own-colours").checked = selection.hasOwnColours;
    const picker = document.querySelector<HTMLSelectElement>("#slice");
    if (picker !== null) picker.value = String(map.slice);
    for (const target of document.querySelectorAll(".step-target")) {
      const slice = target.getAttribute("data-slice");
      const isOn = target.getAttribute("data-step") === String(selection.step);
      target.classList.toggle("on", isOn && (slice === null || slice === String(map.slice)));
      if (isOn && slice !== null) target.parentElement?.append(target); // over the other curves
    }
    for (const part of document.querySelectorAll("tr[data-map], .thumbnail"))
      part.classList.toggle("on", part.getAttribute("data-map") === String(index));
    for (const thumbnail of document.querySelectorAll(".thumbnail button"))
      thumbnail.setAttribute("aria-pressed", String(thumbnail.getAttribute("data-go") === String(index)));
    for (const part of document.querySelectorAll<HTMLElement>("[data-of-map]"))
      part.hidden = part.dataset["ofMap"] !== String(index);
  }

  function update(what: "map" | "cell" | "hover"): void {
    const map = current();
    if (what === "map") {
      hovered = -1;
      tip.hidden = true;
      showMap(map);
    }
    if (what !== "hover") {
      void showConversations(map);
      try {
        history.replaceState(null, "", addressOf({ ...selection, slice: map.slice }));
      } catch {
        // A page inside a frame may not change its address; everything else works.
      }
      announce(sentenceOf(map, chosen(map)));
    }
    mark();
  }

  const choose = (k: number) => {
    const { i, j } = current().points;
    selection.cell = { i: i[k], j: j[k] };
    update("cell");
  };
  const chooseStep = (index: number) => {
    selection.step = data.steps[Math.min(data.steps.length - 1, Math.max(0, index))];
    update("map");
  };
  for (const [part, pointOf] of [
    [chart, pointOfMap],
    [scatter, pointOfScatter],
  ] as const) {
    part.addEventListener("pointermove", (event) => {
      const k = pointOf(part, current(), event);
      const isNew = k !== hovered;
      hovered = k;
      if (part === chart) showTip(tip, chart, current(), k, event);
      if (isNew) update("hover");
    });
    part.addEventListener("pointerleave", () => {
      hovered = -1;
      tip.hidden = true;
      update("hover");
    });
    part.addEventListener("click", (event) => {
      const k = pointOf(part, current(), event);
      if (k >= 0) choose(k);
    });
  }

  const moves: Record<string, [number, number]> = {
    ArrowLeft: [-1, 0],
    ArrowRight: [1, 0],
    ArrowUp: [0, 1],
    ArrowDown: [0, -1],
  };
  chart.addEventListener("keydown", (event) => {
    const map = current();
    const from = chosen(map);
    const move = moves[event.key];
    const pages = { PageUp: 1, PageDown: -1 }[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (move !== undefined) {
      const k = pointAt(map, map.points.i[from] + move[0], map.points.j[from] + move[1]);
      if (k >= 0) choose(k);
    } else if (event.key === "Home" && map.origin >= 0) choose(map.origin);
    else if (pages !== undefined) chooseStep(data.steps.indexOf(selection.step) + pages);
    else return;
    event.preventDefault();
  });

  slider.addEventListener("input", () => chooseStep(Number(slider.value)));
  find("#controls").addEventListener("change", (event) => {
    const control = event.target;
    if (control instanceof HTMLSelectElement) selection.slice = Number(control.value);
    else if (control instanceof HTMLInputElement && control.type === "checkbox")
      selection.hasOwnColours = control.checked;
    else if (
      control instanceof HTMLInputElement &&
      (control.value === "reward" || control.value === "kl" || control.value === "objective")
    )
      selection.quantity = control.value;
    else return;
    update("map");
  });

  // A point of a curve chooses its checkpoint as soon as the pointer is on it.
  const targetOf = (event: Event) =>
    event.target instanceof Element ? event.target.closest<SVGElement>(".step-target") : null;
  const chooseTarget = (target: Element) => {
    const slice = target.getAttribute("data-slice");
    if (slice !== null) selection.slice = Number(slice);
    selection.step = Number(target.getAttribute("data-step"));
    update("map");
  };
  document.addEventListener("pointerover", (event) => {
    const target = targetOf(event);
    if (target !== null && !target.classList.contains("on")) chooseTarget(target);
  });
  document.addEventListener("click", (event) => {
    const target = targetOf(event);
    if (target !== null) chooseTarget(target);
    const go = event.target instanceof Element ? event.target.closest("[data-go]") : null;
    const map = data.maps[Number(go?.getAttribute("data-go") ?? Number.NaN)];
    if (map === undefined) return;
    selection.step = map.step;
    selection.slice = map.slice;
    update("map");
  });
  addEventListener("hashchange", () => {
    readAddress(location.hash, data, selection);
    update("map");
  });

  copyButtons(() => cellsAsCsv(current()));
  chart.append(tip);
  // These are hidden in the page, since they do nothing without this script.
  for (const part of document.querySelectorAll<HTMLElement>("[data-scripted]")) part.hidden = false;
  readAddress(location.hash, data, selection);
  update("map");
  performance.mark("ready");
}
