// The numbers of one point: in the panel, in the tip at the pointer, and as a sentence for screen readers.
import type { PageMap } from "../page-data.ts";
import { find } from "./document.ts";
import { coordinate, rewardText, signed, significant } from "./text.ts";

export function placeOf(map: PageMap, k: number): string {
  if (k === map.origin) return "the checkpoint";
  return `α = ${coordinate(map.points.alpha[k])}, β = ${coordinate(map.points.beta[k])}`;
}

export function sentenceOf(map: PageMap, k: number): string {
  const { i, j, reward, rewardReach, klToken } = map.points;
  const where = k === map.origin ? "the checkpoint" : `cell ${i[k]}, ${j[k]}, ${placeOf(map, k)}`;
  return `Step ${map.step}, ${where}: reward ${rewardText(reward[k], rewardReach[k])}, KL ${significant(klToken[k])} nats per token.`;
}

export function readOut(map: PageMap, k: number): void {
  const { points, origin } = map;
  const set = (id: string, text: string) => {
    find(`#${id}`).textContent = text;
  };
  const home = origin < 0 ? null : points.objective[origin];
  const difference = (points.objective[k] ?? Number.NaN) - (home ?? Number.NaN);
  set("at", `${placeOf(map, k)} · cell ${points.i[k]}, ${points.j[k]}`);
  set("reward", rewardText(points.reward[k], points.rewardReach[k]));
  set("kl", significant(points.klToken[k]));
  set("objective", Number.isNaN(difference) ? "not measured" : signed(significant(difference).replace("−", "-")));
  const gain = origin < 0 ? Number.NaN : points.reward[k] - points.reward[origin];
  set("gain", Number.isNaN(gain) || k === origin ? "" : `${signed(gain.toFixed(3))} against the checkpoint`);
}

/** Places the tip beside the pointer, on the side where there is room. @param k  −1: no tip */
export function showTip(tip: HTMLElement, chart: HTMLElement, map: PageMap, k: number, event: MouseEvent): void {
  tip.hidden = k < 0;
  if (k < 0) return;
  const { reward, rewardReach, klToken } = map.points;
  tip.textContent = `R ${rewardText(reward[k], rewardReach[k])}\nKL ${significant(klToken[k])}`;
  const box = chart.getBoundingClientRect();
  const isRight = event.clientX - box.left > box.width / 2;
  tip.style.left = `${event.clientX - box.left + (isRight ? -14 : 14)}px`;
  tip.style.top = `${event.clientY - box.top + 10}px`;
  tip.style.translate = isRight ? "-100% 0" : "none";
}
