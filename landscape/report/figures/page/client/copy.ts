// Tables as CSV and as LaTeX, for the buttons over each table.
import type { PageMap } from "../page-data.ts";
import { announce, find } from "./document.ts";

/** What a cell of a table says, without the remarks that are only for the page. */
export function textOf(cell: Element): string {
  const copy = cell.cloneNode(true) as Element;
  for (const remark of copy.querySelectorAll(".remark")) remark.remove();
  return (copy.textContent ?? "").replace(/\s+/g, " ").trim();
}

/**
 * CSV after RFC 4180. A cell's data-csv has its numbers to the last digit, several separated by "|"; other cells give
 * their text.
 */
export function tableAsCsv(table: HTMLTableElement): string {
  const field = (text: string) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const line = (row: HTMLTableRowElement) =>
    [...row.cells].flatMap((cell) => (cell.dataset["csv"]?.split("|") ?? [textOf(cell)]).map(field)).join(",");
  return [...table.rows].map((row) => `${line(row)}\n`).join("");
}

/** A tabular for the package booktabs, with the text of the page. */
export function tableAsLatex(table: HTMLTableElement): string {
  const symbols: Record<string, string> = {
    "−": "$-$",
    "±": "$\\pm$",
    "∞": "$\\infty$",
    "×": "$\\times$",
    "→": "$\\to$",
    α: "$\\alpha$",
    β: "$\\beta$",
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
  };
  const escaped = (text: string) =>
    text.replace(/[\\~^&%$#_{}−±∞×→αβ]/g, (character) => symbols[character] ?? `\\${character}`);
  const cellText = (cell: HTMLTableCellElement): string => {
    const sub = cell.querySelector("sub");
    const before = escaped(textOf(cell));
    // "r" with an index is a formula.
    return sub === null
      ? before
      : `$r_{${sub.textContent === "∞" ? "\\infty" : `\\mathrm{${escaped(sub.textContent ?? "")}}`}}$`;
  };
  const line = (row: HTMLTableRowElement) => `${[...row.cells].map(cellText).join(" & ")} \\\\\n`;
  const [head, ...body] = [...table.rows];
  const columns = "l".repeat(head.cells.length);
  return `\\begin{tabular}{${columns}}\n\\toprule\n${line(head)}\\midrule\n${body.map(line).join("")}\\bottomrule\n\\end{tabular}\n`;
}

/** Puts a text on the clipboard. Returns whether the browser allowed it. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    // Older than the clipboard's own interface, but also there where that is not, as in a page of a file.
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  }
}

/** Every cell of a map with its numbers to the last digit. */
export function cellsAsCsv({ step, slice, points }: PageMap): string {
  const header = "step,slice,i,j,alpha,beta,reward,reward_reach,kl_token,objective\n";
  const { i, j, alpha, beta, reward, rewardReach, klToken, objective } = points;
  const rows = i.map((_, k) =>
    [step, slice, i[k], j[k], alpha[k], beta[k], reward[k], rewardReach[k], klToken[k], objective[k]].join(","),
  );
  return `${header}${rows.join("\n")}\n`;
}

/** Makes the page's copy buttons work. @param cells  the cells of the chosen map as CSV */
export function copyButtons(cells: () => string): void {
  document.addEventListener("click", async (event) => {
    const button = event.target instanceof Element ? event.target.closest<HTMLElement>("[data-copy]") : null;
    const name = button?.dataset["copy"];
    if (button === null || name === undefined) return;
    const table = name === "cells" ? null : find<HTMLTableElement>(`#${name}`);
    const text = table === null ? cells() : button.dataset["as"] === "latex" ? tableAsLatex(table) : tableAsCsv(table);
    const isCopied = await copyText(text);
    announce(isCopied ? `Copied ${text.split("\n").length - 1} lines.` : "The browser did not allow copying.");
    button.dataset["said"] ??= button.textContent;
    button.textContent = isCopied ? "Copied" : "Not allowed";
    setTimeout(() => {
      button.textContent = button.dataset["said"] ?? "";
    }, 1500);
  });
}
