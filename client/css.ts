// Stylesheets swapped in place, wherever in the page they live, without one frame in between that is unstyled.

import type { KnownTexts, Page } from './change.ts';
import { withToken } from './token.ts';
import { event, rootsOf, rulesOf } from './walk.ts';

type SheetNode = HTMLLinkElement | HTMLStyleElement;

/** How far the swaps of one node are. */
interface Swaps {
  /** One at a time: two at once can leave the node waiting for ever. */
  turn: Promise<void>;
  /** The newest wins. */
  token: string;
  /** What stands in for a node that failed to load after its stand-in had. */
  cover?: Element;
  /** The text that came with the event, over the node until that has it too. */
  flash?: Element | undefined;
}

const swaps = new WeakMap<SheetNode, Swaps>();
/** A policy forbids sheets of the page's own. */
let refused = false;

/**
 * Fetches again all stylesheets of the page that are, or import, a file for which `isChanged` holds.
 * @param token new with each change: what is fetched for it is never taken for an older version
 * @param changed the URLs of the changed stylesheets, for those that scripts have adopted, and the texts that are known
 * @returns the paths that were found where they can be swapped
 */
export async function swapStyles(
  isChanged: (path: string) => boolean,
  token: string,
  { pathOf, load }: Pick<Page, 'pathOf' | 'load'>,
  { urls, texts }: { readonly urls: readonly string[]; readonly texts: KnownTexts },
): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  const adopted = new Set<CSSStyleSheet>();
  for (const root of rootsOf()) {
    for (const sheet of root.adoptedStyleSheets) adopted.add(sheet);
    for (const node of root.querySelectorAll<SheetNode>('link[rel~=stylesheet i][href],style')) {
      const own = isLink(node) ? node.href : undefined;
      // What a script has inserted is in no text that could be changed.
      if (!own && !importRules(node.sheet).every(({ href }) => source(node).includes(href))) continue;
      const urls = importsOf(node.sheet, own).map(([url]) => url);
      const paths = (own ? [own, ...urls] : urls).map(pathOf).filter(isChanged);
      for (const path of paths) found.add(path);
      if (paths.length > 0) swap(node, token, own && texts[pathOf(own)]);
    }
  }
  if (adopted.size > 0) {
    const { swapAdopted } = await load<typeof import('./adopted.ts')>('adopted');
    for (const url of urls) if (await swapAdopted(url, adopted)) found.add(pathOf(url));
  }
  return found;
}

function isLink(node: SheetNode): node is HTMLLinkElement {
  return 'href' in node;
}

function importRules(sheet: CSSStyleSheet | null): CSSImportRule[] {
  return rulesOf(sheet).filter((rule) => rule instanceof CSSImportRule);
}

/** The URLs a sheet imports, through any depth, and how many rules have come from there. */
function importsOf(sheet: CSSStyleSheet | null, base = document.baseURI): [url: string, rules: number][] {
  return importRules(sheet).flatMap(({ href, styleSheet }) => {
    const { href: url } = new URL(href, base);
    return [[url, rulesOf(styleSheet).length], ...importsOf(styleSheet, url)];
  });
}

function arrivals(sheet: CSSStyleSheet | null): number {
  return importsOf(sheet).filter(([, rules]) => rules > 0).length;
}

function swap(node: SheetNode, token: string, text: string | undefined): void {
  const state = swaps.get(node) ?? { turn: Promise.resolve(), token };
  swaps.set(node, state);
  state.token = token;
  if (text) flash(node, text, state);
  state.turn = state.turn
    .then(() => (state.token === token ? cover(node, token, state) : undefined))
    .then(() => {
      if (state.token === token) state.flash?.remove();
    });
}

/** Shows the text of a sheet at once, where nothing can be another in it than in the sheet that is about to be loaded. */
function flash(node: SheetNode, text: string, state: Swaps): void {
  if (
    refused ||
    !isLink(node) ||
    !node.sheet ||
    node.sheet.disabled ||
    node.title ||
    /alternate/i.test(node.rel) ||
    new URL(node.href).origin !== location.origin ||
    document.querySelector('meta[http-equiv=content-security-policy i]')
  )
    return;
  const sheet = document.createElement('style');
  sheet.media = node.media;
  sheet.textContent = text;
  // Over what stands over the node already.
  ([state.flash, state.cover].find((it) => it?.isConnected) ?? node).after(sheet);
  state.flash?.remove();
  state.flash = sheet;
  refused = !sheet.sheet;
  if (refused) sheet.remove();
}

/** Puts the new sheet over the old one, changes the old one below it, and takes the cover away. */
async function cover(node: SheetNode, token: string, state: Swaps): Promise<void> {
  const refresh = refresher(node, token);
  if (isLink(node) && node.disabled) return refresh(node); // it is not loaded: nothing to wait for
  const before = source(node);
  const stand = node.cloneNode(true) as SheetNode;
  for (const name of ['id', 'onload', 'onerror']) stand.removeAttribute(name);
  const off = node.sheet?.disabled;
  const enough = arrivals(node.sheet);
  /** Resolves when the sheet applies: to false if it does not come. */
  const load = async (target: SheetNode) => {
    refresh(target);
    if (target === stand) node.after(stand);
    const loaded = await event(target, 'load').catch(() => false);
    const { sheet } = target;
    if (off && sheet) sheet.disabled = true;
    // An error may be that of a sheet it imports, which was missing before.
    return loaded || (importRules(sheet).length > 0 && arrivals(sheet) >= enough);
  };
  // A sheet that does not come leaves the old one, and so does a script that was quicker than we.
  if ((await load(stand)) && node.isConnected && source(node) === before) {
    const done = await load(node);
    state.cover?.remove();
    state.cover = stand;
    if (!done) return;
  }
  stand.remove();
}

function source(node: SheetNode): string {
  return isLink(node) ? node.href : node.textContent;
}

/** What makes a node, or its clone, fetch again. */
function refresher(node: SheetNode, token: string): (node: SheetNode) => void {
  if (isLink(node)) {
    const href = withToken(node.getAttribute('href') ?? '', token);
    return (target) => {
      target.removeAttribute('integrity'); // it is that of what was saved over
      target.setAttribute('href', href);
    };
  }
  const imported = importRules(node.sheet).map(({ href }) => href);
  return (target) => {
    // Another text in the same node is one step; textContent would be two, with nothing in between.
    for (const child of target.childNodes) {
      child.nodeValue = imported.reduce(
        (text, url) => text.split(url).join(withToken(url, token)),
        child.nodeValue ?? '',
      );
    }
  };
}
