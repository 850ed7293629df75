// Light, dark, or as the reader's system has it.
import { find } from "./document.ts";

export function themeSwitch(): void {
  const group = find<HTMLElement>("#theme");
  group.hidden = false;
  group.addEventListener("change", (event) => {
    const chosen = event.target instanceof HTMLInputElement ? event.target.value : "auto";
    if (chosen === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = chosen;
  });
}
