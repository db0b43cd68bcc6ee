// Links that open a file at a line in the user's own editor.

import { recall, remember } from "./dom.js";

const path = (file) => file.split("/").map(encodeURIComponent).join("/");

export const EDITORS = {
  vscode: ["VS Code", (file, line) => `vscode://file${path(file)}:${line}`],
  vscodium: ["VSCodium", (file, line) => `vscodium://file${path(file)}:${line}`],
  cursor: ["Cursor", (file, line) => `cursor://file${path(file)}:${line}`],
  windsurf: ["Windsurf", (file, line) => `windsurf://file${path(file)}:${line}`],
  zed: ["Zed", (file, line) => `zed://file${path(file)}:${line}`],
  idea: ["JetBrains", (file, line) => `idea://open?file=${encodeURIComponent(file)}&line=${line}`],
  sublime: ["Sublime Text", (file, line) => `subl://open?url=${encodeURIComponent(`file://${file}`)}&line=${line}`],
  textmate: ["TextMate", (file, line) => `txmt://open?url=${encodeURIComponent(`file://${file}`)}&line=${line}`],
};

/** Return the chosen editor's key. */
export function editor() {
  const chosen = recall("editor");
  return chosen in EDITORS ? chosen : "vscode";
}

export const choose = (key) => remember("editor", key);

/** Return the address that opens a hit in the editor; null when it comes from git's objects and not from a folder. */
export function opens(hit) {
  if (hit.revision || !hit.repository.startsWith("/")) return null;
  return EDITORS[editor()][1](`${hit.repository}/${hit.path}`, hit.best_line);
}
