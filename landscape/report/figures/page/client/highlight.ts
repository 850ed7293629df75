// Which cell of the map, or dot of the scatter plot, is under the pointer, and the outlines around the chosen and the
// hovered one.
import type { PageMap } from "../page-data.ts";

export function attributeOf(element: Element, key: string): number {
  return Number(element.getAttribute(key) ?? 0);
}

/** The pointer's place in the units of a drawing. */
export function placeInDrawing(drawing: SVGSVGElement, event: MouseEvent): DOMPoint | null {
  const matrix = drawing.getScreenCTM();
  return matrix === null ? null : new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
}

/** Index of the point whose square is under the pointer, or −1. */
export function pointOfMap(part: Element, map: PageMap, event: MouseEvent): number {
  const area = part.querySelector(".map-area");
  const drawing = part.querySelector("svg");
  const at = drawing === null ? null : placeInDrawing(drawing, event);
  if (area === null || at === null) return -1;
  const i = Math.floor(((at.x - attributeOf(area, "x")) / attributeOf(area, "width")) * map.n);
  const j = map.n - 1 - Math.floor(((at.y - attributeOf(area, "y")) / attributeOf(area, "height")) * map.n);
  return map.points.i.findIndex((value, k) => value === i && map.points.j[k] === j);
}

/** Where the scatter plot draws a point. */
export function dotPlace(area: Element, map: PageMap, k: number): [number, number] {
  const [low, high] = (area.getAttribute("data-rewards") ?? "0 1").split(" ").map(Number);
  const right = Math.sqrt(map.points.klToken[k] / attributeOf(area, "data-most-kl"));
  const up = high === low ? 0.5 : (map.points.reward[k] - low) / (high - low);
  return [
    attributeOf(area, "x") + right * attributeOf(area, "width"),
    attributeOf(area, "y") + (1 - up) * attributeOf(area, "height"),
  ];
}

/** Index of the nearest dot within a few dots' widths of the pointer, or −1. */
export function pointOfScatter(part: Element, map: PageMap, event: MouseEvent): number {
  const area = part.querySelector(".dot-area");
  const drawing = part.querySelector("svg");
  const at = drawing === null ? null : placeInDrawing(drawing, event);
  if (area === null || at === null) return -1;
  let nearest = -1;
  let least = 4 * attributeOf(area, "data-dot");
  map.points.i.forEach((_, k) => {
    const [x, y] = dotPlace(area, map, k);
    const distance = Math.hypot(x - at.x, y - at.y);
    if (distance < least) [nearest, least] = [k, distance];
  });
  return nearest;
}

/** Outlines the chosen and the hovered point in one of the two drawings; −1: none. */
export function outline(part: Element, map: PageMap, chosen: number, hovered: number): void {
  const drawing = part.querySelector("svg");
  if (drawing === null) return;
  for (const old of drawing.querySelectorAll(".chosen, .hovered")) old.remove();
  const add = (shape: string, name: string, attributes: Record<string, number>) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", shape);
    made.setAttribute("class", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
    drawing.append(made);
  };
  const area = drawing.querySelector(".map-area");
  const dots = drawing.querySelector(".dot-area");
  for (const [name, k] of [
    ["chosen", chosen],
    ["hovered", hovered],
  ] as const) {
    if (k < 0) continue;
    if (area !== null) {
      const width = attributeOf(area, "width") / map.n;
      const height = attributeOf(area, "height") / map.n;
      const x = attributeOf(area, "x") + map.points.i[k] * width;
      const y = attributeOf(area, "y") + (map.n - 1 - map.points.j[k]) * height;
      if (name === "chosen")
        add("rect", "chosen edge", { x: x - 0.6, y: y - 0.6, width: width + 1.2, height: height + 1.2 });
      add("rect", name, { x, y, width, height });
    }
    if (dots !== null) {
      const [cx, cy] = dotPlace(dots, map, k);
      add("circle", name, { cx, cy, r: attributeOf(dots, "data-dot") + 2 });
    }
  }
}
