// The script of the report. It runs in the reader's browser, from the text of this one function, so it may use nothing
// outside it; types are erased. All drawings are in the page as figures, all numbers in its JSON (page-data.ts). This
// script only handles interaction: choosing a checkpoint, a slice, a quantity, a cell. Text is set as text, never as
// markup.
import type { Quantity } from "../figure-data.ts";
import type { PageConversations, PageData, PageMap } from "./page-data.ts";

export function reportClient(): void {
  const find = <E extends Element>(selector: string): E => {
    const found = document.querySelector<E>(selector);
    if (found === null) throw new Error(`report: the page has no ${selector}`);
    return found;
  };
  const readJson = (selector: string) => JSON.parse(find(selector).textContent ?? "");
  const data: PageData = readJson("#data");
  if (data.maps.length === 0) return;

  const state = {
    step: data.maps[data.maps.length - 1].step,
    slice: data.maps[0].slice,
    quantity: "reward" as Quantity,
    hasOwnColours: false,
    /** The chosen cell: arrow keys move it, and its conversations are shown. */
    cell: { i: Number.NaN, j: Number.NaN },
    /** Index of the point under the pointer, or −1. */
    hovered: -1,
  };

  const slider = find<HTMLInputElement>("#step");
  const chart = find<HTMLElement>("#map");
  const scatter = find<HTMLElement>("#scatter");

  const mapAt = (step: number, slice: number): PageMap | undefined =>
    data.maps.find((map) => map.step === step && map.slice === slice);
  const pointAt = (map: PageMap, i: number, j: number) =>
    map.points.i.findIndex((value, k) => value === i && map.points.j[k] === j);

  /** The chosen map; if a checkpoint was not measured in the chosen slice, the map of its first slice. */
  const current = (): PageMap =>
    mapAt(state.step, state.slice) ?? data.maps.find((map) => map.step === state.step) ?? data.maps[0];
  /** The chosen point; the checkpoint if nothing was chosen or the chosen cell does not exist. */
  const chosen = (map: PageMap) => {
    const k = pointAt(map, state.cell.i, state.cell.j);
    return k >= 0 ? k : Math.max(0, map.origin);
  };

  // ---- numbers as text

  const minus = (text: string) => text.replace("-", "−");
  const signed = (text: string) => (text.startsWith("-") || Number(text) === 0 ? minus(text) : `+${text}`);
  const significant = (value: number) => {
    if (value === 0) return "0";
    const text = value.toPrecision(3);
    return minus(text.includes("e") ? value.toExponential(2) : text);
  };
  const withReach = (value: string, reach: number | null, write: (value: number) => string) =>
    reach === null ? value : `${value} ± ${write(reach)}`;
  const fixed = (value: number) => minus(value.toFixed(3));
  const coordinate = (value: number) => signed(String(Number(value.toPrecision(4))));

  const html = (name: string, className: string, ...children: (Node | string)[]): HTMLElement => {
    const made = document.createElement(name);
    made.className = className;
    made.append(...children);
    return made;
  };

  const differenceAt = (map: PageMap, k: number): number => {
    const origin = map.origin < 0 ? null : map.points.objective[map.origin];
    return (map.points.objective[k] ?? Number.NaN) - (origin ?? Number.NaN);
  };

  // ---- one figure is shown, with a highlight

  /** Shows the figures of `wanted` in a part of the page and hides its others. */
  function show(part: HTMLElement, wanted: string): void {
    for (const figure of part.querySelectorAll<HTMLElement>("figure")) figure.hidden = !figure.matches(wanted);
  }

  /** The outline of this name in the visible figure; created if it does not exist yet. */
  function outline(part: HTMLElement, shape: string, name: string): Element | null {
    const drawing = part.querySelector("figure:not([hidden]) svg");
    const there = drawing?.querySelector(`${shape}.${name}`) ?? null;
    if (drawing === null || there !== null) return there;
    const made = document.createElementNS("http://www.w3.org/2000/svg", shape);
    made.setAttribute("class", name);
    drawing.append(made);
    return made;
  }

  function place(element: Element, attributes: Record<string, number>): void {
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  }

  const lengthOf = (element: Element, key: string) => Number(element.getAttribute(key) ?? 0);

  /**
   * Outlines the chosen and the hovered point in both drawings, and writes the numbers of the hovered point, or of the
   * chosen one if none is hovered.
   */
  function mark(): void {
    const map = current();
    const area = chart.querySelector("figure:not([hidden]) .map-area");
    for (const [name, k] of [
      ["chosen", chosen(map)],
      ["hovered", state.hovered],
    ] as const) {
      const square = outline(chart, "rect", name);
      const ring = outline(scatter, "circle", name);
      for (const element of [square, ring]) element?.toggleAttribute("hidden", k < 0);
      if (k < 0) continue;
      const [i, j] = [map.points.i[k], map.points.j[k]];
      const dot = scatter.querySelector(`figure:not([hidden]) circle[data-cell="${i},${j}"]`);
      if (area !== null && square !== null) {
        const width = lengthOf(area, "width") / map.n;
        const height = lengthOf(area, "height") / map.n;
        const x = lengthOf(area, "x") + i * width;
        const y = lengthOf(area, "y") + (map.n - 1 - j) * height;
        place(square, { x, y, width, height });
      }
      if (dot !== null && ring !== null)
        place(ring, { cx: lengthOf(dot, "cx"), cy: lengthOf(dot, "cy"), r: lengthOf(dot, "r") + 2 });
    }
    readOut(map, state.hovered >= 0 ? state.hovered : chosen(map));
  }

  function readOut(map: PageMap, k: number): void {
    const { points, origin } = map;
    const set = (id: string, text: string) => {
      find(`#${id}`).textContent = text;
    };
    const difference = differenceAt(map, k);
    set(
      "at",
      k === origin ? "the checkpoint" : `α = ${coordinate(points.alpha[k])}, β = ${coordinate(points.beta[k])}`,
    );
    set("reward", withReach(fixed(points.reward[k]), points.rewardReach[k], fixed));
    set("kl", significant(points.klToken[k]));
    set("objective", Number.isNaN(difference) ? "not measured" : signed(significant(difference).replace("−", "-")));
    const gain = origin < 0 ? Number.NaN : points.reward[k] - points.reward[origin];
    set("gain", Number.isNaN(gain) || k === origin ? "" : `${signed(gain.toFixed(3))} against the checkpoint`);
  }

  // ---- conversations

  const parsed = new Map<PageMap, PageConversations | null>();
  function conversationsOf(map: PageMap): PageConversations | null {
    if (!parsed.has(map)) {
      const selector = `#conversations-${data.maps.indexOf(map)}`;
      parsed.set(map, document.querySelector(selector) === null ? null : readJson(selector));
    }
    return parsed.get(map) ?? null;
  }

  /** Control characters of model output as \x07 and the like; line ends and tabs stay. */
  const visible = (text: string) =>
    text.replace(/\p{Cc}/gu, (character) =>
      character === "\n" || character === "\t"
        ? character
        : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
    );

  function showConversations(map: PageMap): void {
    const list = find("#conversations");
    const said = conversationsOf(map);
    const at = (k: number) => (k < 0 ? undefined : said?.cells[`${map.points.i[k]},${map.points.j[k]}`]);
    const k = chosen(map);
    const [here, home] = [at(k), k === map.origin ? undefined : at(map.origin)];
    const block = (role: string, text: string, column: string) => {
      const content = html("p", "content", visible(text));
      content.dir = "auto";
      return html(
        "div",
        `message ${role === "assistant" ? "assistant" : "other"} ${column}`,
        html("span", "role", role),
        content,
      );
    };
    const heading = (title: string, reward: number, column: string) =>
      html("p", `whose ${column}`, title, " · ", html("span", "score", `reward ${fixed(reward)}`));
    if (said === null || here === undefined) {
      list.replaceChildren(html("p", "empty", "No conversations were kept for this cell."));
      return;
    }
    list.replaceChildren(
      ...here.map(({ reward, messages }, prompt) => {
        const other = home?.[prompt];
        const article = html("article", other ? "two" : "one", html("h3", "", `Prompt ${prompt + 1}`));
        article.append(heading(k === map.origin ? "The checkpoint" : "This cell", reward, "left"));
        if (other) article.append(heading("The checkpoint", other.reward, "right"));
        messages.forEach(([role, text], turn) => {
          const [otherRole, otherText] = other?.messages[turn] ?? ["", -1];
          // The messages that both conversations share are shown once, across both columns.
          const isShared = role !== "assistant" && otherRole === role && otherText === text;
          article.append(block(role, said.texts[text], other === undefined || isShared ? "across" : "left"));
          if (!isShared && otherText >= 0) article.append(block(otherRole, said.texts[otherText], "right"));
        });
        return article;
      }),
    );
  }

  // ---- the page follows the state

  function update(what: "map" | "cell" | "hover"): void {
    const map = current();
    if (what === "map") {
      state.hovered = -1;
      if (state.quantity === "objective" && !map.hasObjective) state.quantity = "reward";
      const index = String(data.maps.indexOf(map));
      const colours = state.hasOwnColours ? "own" : "shared";
      show(chart, `[data-map="${index}"][data-quantity="${state.quantity}"][data-colours="${colours}"]`);
      show(scatter, `[data-map="${index}"]`);
      slider.value = String(data.steps.indexOf(state.step));
      slider.setAttribute("aria-valuetext", `step ${state.step}`);
      find("#step-number").textContent = String(state.step);
      for (const radio of document.querySelectorAll<HTMLInputElement>("input[name=quantity]")) {
        radio.checked = radio.value === state.quantity;
        if (radio.value === "objective") radio.disabled = !map.hasObjective;
      }
      const picker = document.querySelector<HTMLSelectElement>("#slice");
      if (picker !== null) picker.value = String(map.slice);
      for (const target of document.querySelectorAll(".step-target"))
        target.classList.toggle("on", target.getAttribute("data-step") === String(state.step));
      for (const row of document.querySelectorAll("#summary tr[data-map]"))
        row.classList.toggle("on", row.getAttribute("data-map") === index);
      for (const part of document.querySelectorAll<HTMLElement>("[data-estimates]"))
        part.hidden = part.dataset["estimates"] !== index;
    }
    if (what !== "hover") {
      showConversations(map);
      const { i, j } = state.cell;
      const cell = Number.isNaN(i) ? "" : `&cell=${i},${j}`;
      const hash = `#step=${state.step}&slice=${map.slice}&show=${state.quantity}${cell}`;
      try {
        history.replaceState(null, "", hash);
      } catch {
        // A page inside a frame may not change its address; everything else works.
      }
    }
    mark();
  }

  function readHash(): void {
    const wanted = new URLSearchParams(location.hash.slice(1));
    const [step, slice] = [Number(wanted.get("step") ?? Number.NaN), Number(wanted.get("slice") ?? Number.NaN)];
    if (data.steps.includes(step)) state.step = step;
    if (data.slices.includes(slice)) state.slice = slice;
    const show = wanted.get("show");
    if (show === "reward" || show === "kl" || show === "objective") state.quantity = show;
    const cell = wanted.get("cell")?.split(",").map(Number);
    if (cell?.length === 2) state.cell = { i: cell[0], j: cell[1] };
  }

  const hoveredIn = (event: Event): number => {
    const cell = event.target instanceof Element ? event.target.getAttribute("data-cell") : null;
    if (cell === null) return -1;
    const [i, j] = cell.split(",").map(Number);
    return pointAt(current(), i, j);
  };
  const choose = (k: number) => {
    const { i, j } = current().points;
    state.cell = { i: i[k], j: j[k] };
    update("cell");
  };
  for (const drawing of [chart, scatter]) {
    drawing.addEventListener("pointermove", (event) => {
      const k = hoveredIn(event);
      if (k === state.hovered) return;
      state.hovered = k;
      update("hover");
    });
    drawing.addEventListener("pointerleave", () => {
      state.hovered = -1;
      update("hover");
    });
    drawing.addEventListener("click", (event) => {
      if (hoveredIn(event) >= 0) choose(hoveredIn(event));
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
    if (move !== undefined) {
      const k = pointAt(map, map.points.i[from] + move[0], map.points.j[from] + move[1]);
      if (k >= 0) choose(k);
    } else if (event.key === "Home" && map.origin >= 0) choose(map.origin);
    else return;
    event.preventDefault();
  });

  slider.addEventListener("input", () => {
    state.step = data.steps[Number(slider.value)];
    update("map");
  });
  find("#controls").addEventListener("change", (event) => {
    const control = event.target;
    if (control instanceof HTMLSelectElement) state.slice = Number(control.value);
    else if (control instanceof HTMLInputElement && control.type === "checkbox") state.hasOwnColours = control.checked;
    else if (
      control instanceof HTMLInputElement &&
      (control.value === "reward" || control.value === "kl" || control.value === "objective")
    )
      state.quantity = control.value;
    else return;
    update("map");
  });
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target.closest("[data-step], [data-go]") : null;
    if (target === null) return;
    const map = data.maps[Number(target.getAttribute("data-go") ?? Number.NaN)];
    state.step = map?.step ?? Number(target.getAttribute("data-step"));
    state.slice = map?.slice ?? state.slice;
    update("map");
  });
  addEventListener("hashchange", () => {
    readHash();
    update("map");
  });

  // These are hidden in the page, since they do nothing without this script.
  find<HTMLElement>("#controls").hidden = false;
  find<HTMLElement>("#reading").hidden = false;
  readHash();
  update("map");
}
