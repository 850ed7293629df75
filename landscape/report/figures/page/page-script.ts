// The script of the report as text: the functions of client/, one after another. They call each other by the names under
// which they are imported, so they work in one scope as they do as modules; types are gone. Nothing of a module but its
// functions is in the page.
import * as address from "./client/address.ts";
import { reportClient } from "./client/client.ts";
import * as conversations from "./client/conversations.ts";
import * as copy from "./client/copy.ts";
import * as ownDocument from "./client/document.ts";
import * as highlight from "./client/highlight.ts";
import * as reading from "./client/reading.ts";
import * as text from "./client/text.ts";
import * as theme from "./client/theme.ts";

export function pageScript(): string {
  const modules = [text, ownDocument, address, theme, copy, highlight, reading, conversations, { reportClient }];
  const functions = modules.flatMap((module) => Object.values(module));
  return `"use strict";(()=>{${functions.map(String).map(compact).join("\n")}\nvoid reportClient();})();`;
}

/** Without indents and the white space that erased types leave at line ends. Templates of the script have one line. */
function compact(source: string): string {
  return source.replace(/[ \t]+$/gm, "").replace(/^ +/gm, "");
}
