// Stylesheets that scripts have made and adopted (CSS modules, fetched texts), found by the text they were made of.
// Fetched by pages that have some.

import { rulesOf } from './walk.ts';

/**
 * Puts the newest text into those sheets that were made of an earlier one.
 * @param url of the changed stylesheet, from the slash on
 * @returns whether there were any, and all is shown
 */
export async function swapAdopted(url: string, sheets: Iterable<CSSStyleSheet>): Promise<boolean> {
  try {
    // All that the server remembers, the newest first
    const texts: string[] = await (await fetch(`${url}?live-sse=all`)).json();
    const [next = ''] = texts;
    const known = texts.map((text) => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(text);
      return textOf(sheet);
    });
    const found = [...sheets].filter((sheet) => sheet.cssRules.length > 0 && known.includes(textOf(sheet)));
    // Two files may have the same text, and only one of them was saved.
    const loads = performance.getEntriesByName(location.origin + url).length;
    if (found.length > 1 && found.length > loads) return false;
    // What is imported is the business of whoever has made the sheet: a sheet of this kind ignores it.
    if (/@import/.test(next)) return false;
    for (const sheet of found) sheet.replaceSync(next);
    return found.length > 0;
  } catch {
    return false; // another server, which has no earlier texts
  }
}

function textOf(sheet: CSSStyleSheet): string {
  return rulesOf(sheet)
    .map((rule) => rule.cssText)
    .join('');
}
