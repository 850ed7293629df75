// The script of the report. It runs in the reader's browser, from the text of this one function, so nothing outside it may
// be used; types are erased. All numbers and drawings come ready from the page's JSON (page-data.ts); here is only what
// follows a hand: choosing a checkpoint, a slice, a quantity, a cell. Text is set as text, never as markup.
import type { Quantity } from "../figure-data.ts";
import type { PageConversations, PageData, PageIsoline, PageMap, PageScale } from "./page-data.ts";

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
    /** Chosen cell, which arrow keys move and whose conversations are shown. */
    cell: { i: Number.NaN, j: Number.NaN },
    /** Point under the pointer, or −1. */
    hovered: -1,
  };

  const slider = find<HTMLInputElement>("#step");
  const chart = find<SVGSVGElement>("#map");
  const scatter = find<SVGSVGElement>("#scatter");

  const mapAt = (step: number, slice: number): PageMap | undefined =>
    data.maps.find((map) => map.step === step && map.slice === slice);
  const pointAt = (map: PageMap, i: number, j: number) =>
    map.points.i.findIndex((value, k) => value === i && map.points.j[k] === j);

  /** The chosen map; where a checkpoint was not measured in the chosen slice, its first slice. */
  const current = (): PageMap =>
    mapAt(state.step, state.slice) ?? data.maps.find((map) => map.step === state.step) ?? data.maps[0];
  /** The chosen point; the checkpoint where nothing was chosen, or where the chosen cell does not exist. */
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
  const withError = (value: string, error: number | null, write: (value: number) => string) =>
    error === null ? value : `${value} ± ${write(error)}`;
  const fixed = (value: number) => minus(value.toFixed(3));
  const coordinate = (value: number) => signed(String(Number(value.toPrecision(4))));

  // ---- drawing

  type Attributes = Record<string, string | number>;
  const svg = (name: string, attributes: Attributes, text?: string): SVGElement => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const html = (name: string, className: string, ...children: (Node | string)[]): HTMLElement => {
    const made = document.createElement(name);
    made.className = className;
    made.append(...children);
    return made;
  };

  const { side } = data;
  const left = 46;
  const top = 8;
  const colourOf = (quantity: Quantity, { domain: [low, high] }: PageScale, value: number) => {
    const table = data.colours[quantity];
    const entry = Math.round(((value - low) / (high - low)) * (table.length - 1));
    return table[Math.min(table.length - 1, Math.max(0, entry))];
  };
  const valueAt = (map: PageMap, k: number, quantity: Quantity): number => {
    const origin = map.origin < 0 ? null : map.points.objective[map.origin];
    if (quantity === "reward") return map.points.reward[k];
    if (quantity === "kl") return map.points.klToken[k];
    return (map.points.objective[k] ?? Number.NaN) - (origin ?? Number.NaN);
  };

  function drawMap(map: PageMap): void {
    const { quantity } = state;
    const scale = state.hasOwnColours ? map.scales[quantity] : data.scales[quantity];
    const cell = side / map.n;
    const parts: SVGElement[] = [svg("rect", { x: left, y: top, width: side, height: side, class: "unmeasured" })];
    map.points.reward.forEach((_, k) => {
      const value = valueAt(map, k, quantity);
      const x = left + map.points.i[k] * cell;
      const y = top + (map.n - 1 - map.points.j[k]) * cell;
      const fill = Number.isNaN(value) ? "none" : colourOf(quantity, scale, value);
      // Slightly larger than its place, so that no seam shows between squares.
      parts.push(svg("rect", { x, y, width: cell + 0.4, height: cell + 0.4, fill, class: "cell", "data-k": k }));
    });
    const lines = map.isolines[quantity === "objective" ? "objective" : "kl"];
    const overlay = svg("g", { transform: `translate(${left} ${top})`, class: `isolines ${quantity}` });
    for (const line of lines.flatMap(isoline)) overlay.append(line);
    const middle = side / 2;
    overlay.append(
      svg("circle", { cx: middle, cy: middle, r: 5, class: "checkpoint-edge" }),
      svg("circle", { cx: middle, cy: middle, r: 5, class: "checkpoint" }),
    );
    parts.push(overlay, svg("rect", { class: "chosen" }), svg("rect", { class: "hovered" }));
    parts.push(...mapAxes(map), ...colourBar(quantity, scale));
    chart.replaceChildren();
    for (const part of parts) chart.append(part);
  }

  const isoline = ({ d, isBelowZero, text, x, y, angle }: PageIsoline): SVGElement[] => [
    svg("path", { d, class: "edge" }),
    svg("path", { d, class: isBelowZero ? "line below" : "line" }),
    svg("text", { x, y: y + 4, transform: `rotate(${angle} ${x} ${y})`, class: "level" }, text),
  ];

  function mapAxes(map: PageMap): SVGElement[] {
    const half = side / map.n / 2;
    return [-1, 0, 1]
      .flatMap((sign) => {
        const x = left + side / 2 + sign * (side / 2 - half);
        const y = top + side / 2 - sign * (side / 2 - half);
        const text = minus(String(Number((sign * map.radius).toPrecision(4))));
        const bottom = top + side;
        return [
          svg("path", { d: `M${x} ${bottom}v5M${left} ${y}h-5`, class: "tick" }),
          svg("text", { x, y: bottom + 18, class: "middle" }, sign === 0 ? "0" : text),
          svg("text", { x: left - 8, y: y + 4, class: "end" }, sign === 0 ? "0" : text),
        ];
      })
      .concat(
        svg("text", { x: left + side * 0.75, y: top + side + 18, class: "middle symbol" }, "α"),
        svg("text", { x: left - 12, y: top + side * 0.25, class: "end symbol" }, "β"),
      );
  }

  function colourBar(quantity: Quantity, { domain: [low, high], ticks }: PageScale): SVGElement[] {
    const y = top + side + 36;
    const bands = 100;
    const table = data.colours[quantity];
    const at = (value: number) => left + ((value - low) / (high - low)) * side;
    const parts = Array.from({ length: bands }, (_, k) => {
      const fill = table[Math.round((k / (bands - 1)) * (table.length - 1))];
      return svg("rect", { x: left + (k * side) / bands, y, width: side / bands + 0.5, height: 9, fill });
    });
    for (const { value, text } of ticks)
      parts.push(
        svg("path", { d: `M${at(value)} ${y + 9}v4`, class: "tick" }),
        svg("text", { x: at(value), y: y + 26, class: "middle" }, text),
      );
    return parts;
  }

  function drawScatter(map: PageMap): void {
    const box = { left: 46, top: 10, width: 344, height: 200 };
    const { reward, kl } = data.axes;
    const x = (value: number) => box.left + 8 + Math.sqrt(value / kl.domain[1]) * (box.width - 14);
    const y = (value: number) =>
      box.top + 6 + (1 - (value - reward.domain[0]) / (reward.domain[1] - reward.domain[0])) * (box.height - 12);
    const bottom = box.top + box.height;
    const parts: SVGElement[] = [
      svg("path", { d: `M${box.left} ${box.top}V${bottom}H${box.left + box.width}`, class: "tick" }),
    ];
    for (const tick of kl.ticks)
      parts.push(
        svg("path", { d: `M${x(tick.value)} ${bottom}v4`, class: "tick" }),
        svg("text", { x: x(tick.value), y: bottom + 17, class: "middle" }, tick.text),
      );
    for (const tick of reward.ticks)
      parts.push(
        svg("path", { d: `M${box.left} ${y(tick.value)}h-4`, class: "tick" }),
        svg("text", { x: box.left - 8, y: y(tick.value) + 4, class: "end" }, tick.text),
      );
    const table = data.colours.reward;
    const order = map.points.ring.map((_, k) => k).sort((a, b) => map.points.ring[b] - map.points.ring[a]);
    const radius = map.n > 11 ? 2.6 : 4;
    for (const k of order) {
      const fill = table[Math.round((1 - Math.min(1, map.points.ring[k] / Math.SQRT2)) * (table.length - 1))];
      parts.push(
        svg("circle", {
          cx: x(map.points.klToken[k]),
          cy: y(map.points.reward[k]),
          r: radius,
          fill,
          class: "dot",
          "data-k": k,
        }),
      );
    }
    parts.push(svg("circle", { r: radius + 3, class: "chosen" }), svg("circle", { r: radius + 3, class: "hovered" }));
    scatter.replaceChildren();
    for (const part of parts) scatter.append(part);
  }

  /** Outlines the chosen and the hovered point in both drawings, and writes the numbers of the one that is looked at. */
  function mark(): void {
    const map = current();
    const cell = side / map.n;
    for (const [name, k] of [
      ["chosen", chosen(map)],
      ["hovered", state.hovered],
    ] as const) {
      const square = chart.querySelector(`rect.${name}`);
      const ring = scatter.querySelector(`circle.${name}`);
      const dot = scatter.querySelector(`circle.dot[data-k="${k}"]`);
      for (const outline of [square, ring]) outline?.toggleAttribute("hidden", k < 0);
      if (k < 0 || dot === null) continue;
      const place = {
        x: left + map.points.i[k] * cell,
        y: top + (map.n - 1 - map.points.j[k]) * cell,
        width: cell,
        height: cell,
      };
      for (const [key, value] of Object.entries(place)) square?.setAttribute(key, String(value));
      for (const key of ["cx", "cy"]) ring?.setAttribute(key, dot.getAttribute(key) ?? "0");
    }
    readOut(map, state.hovered >= 0 ? state.hovered : chosen(map));
  }

  function readOut(map: PageMap, k: number): void {
    const { points, origin } = map;
    const set = (id: string, text: string) => {
      find(`#${id}`).textContent = text;
    };
    const difference = valueAt(map, k, "objective");
    set(
      "at",
      k === origin ? "the checkpoint" : `α = ${coordinate(points.alpha[k])}, β = ${coordinate(points.beta[k])}`,
    );
    set("reward", withError(fixed(points.reward[k]), points.rewardError[k], fixed));
    set("kl", withError(significant(points.klToken[k]), points.klTokenError[k], significant));
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
          // What both were told is shown once, across.
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
      drawMap(map);
      drawScatter(map);
      slider.value = String(data.steps.indexOf(state.step));
      slider.setAttribute("aria-valuetext", `step ${state.step}`);
      find("#step-number").textContent = String(state.step);
      find("#map-mark").textContent = map.mark ?? "";
      for (const radio of document.querySelectorAll<HTMLInputElement>("input[name=quantity]")) {
        radio.checked = radio.value === state.quantity;
        if (radio.value === "objective") radio.disabled = !map.hasObjective;
      }
      const picker = document.querySelector<HTMLSelectElement>("#slice");
      if (picker !== null) picker.value = String(map.slice);
      for (const target of document.querySelectorAll(".step-target"))
        target.classList.toggle("on", target.getAttribute("data-step") === String(state.step));
      const index = String(data.maps.indexOf(map));
      for (const row of document.querySelectorAll("#summary tr[data-map]"))
        row.classList.toggle("on", row.getAttribute("data-map") === index);
      for (const part of document.querySelectorAll<HTMLElement>("[data-estimates]"))
        part.hidden = part.dataset["estimates"] !== index;
      for (const part of document.querySelectorAll<HTMLElement>("[data-caption]"))
        part.hidden = part.dataset["caption"] !== state.quantity;
    }
    if (what !== "hover") {
      showConversations(map);
      const { i, j } = state.cell;
      const cell = Number.isNaN(i) ? "" : `&cell=${i},${j}`;
      const hash = `#step=${state.step}&slice=${map.slice}&show=${state.quantity}${cell}`;
      try {
        history.replaceState(null, "", hash);
      } catch {
        // A page shown inside another may not change its address; all else works.
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
    const k = event.target instanceof Element ? event.target.getAttribute("data-k") : null;
    return k === null ? -1 : Number(k);
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

  readHash();
  update("map");
}
