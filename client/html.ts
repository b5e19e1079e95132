// An edit of the page's own HTML, merged three ways: what differs between the old and the new source is done to the
// live nodes that the old source's nodes became, so what scripts have built since, and what the user did, stays.
// All edits are decided before the first is made. Whatever is not sure to end where a reload would is left to a reload.

import { withoutTokens } from './token.ts';

/** What cannot be changed afterwards: it has had its effect when it was parsed. */
const FIXED = 'script,template,noscript,base,frameset,[http-equiv]';
const FIXED_ATTRIBUTE = /^(on.*|nonce|integrity|is|charset)$/;
/** Elements that look at their attributes or children once, or lose what they show when one is set. */
const LOADED_ONCE = /^(I?FRAME|OBJECT|EMBED|CANVAS|VIDEO|AUDIO|SOURCE)$/;
/** Elements that no script is likely to set up: those of the head, and what is merely text. */
const HEAD = /^(TITLE|META|LINK|STYLE)$/;
const PROSE = /^(P|BR|HR|B|I|EM|STRONG|SMALL|MARK|DEL|INS|S|U|Q)$/;
/** Pairs of children that are compared at most: beyond that a reload is quicker. */
const LIMIT = 4e6;

/** Stylesheets that stay until the one in their place has come. */
const leaving = new WeakSet<Node>();

/** Puts a node where it belongs. */
type Put = (parent: Node, before: Node | null) => void;

/** What tells whether two children are the same one. */
interface Traits {
  readonly kind: string;
  readonly attributes: string;
  readonly text: string | null;
  readonly weight: number;
}

/**
 * Does to the live document what differs between two sources of it: all of it, or nothing.
 *
 * @param old the HTML that the document was made of, or that was merged into it last; it may be parsed already
 * @returns `false` if only a reload is sure to be right
 */
export function mergeHtml(old: string | Document, next: string, doc: Document = document): boolean {
  try {
    for (const edit of plan(typeof old === 'string' ? parse(old) : old, parse(next), doc)) edit();
    return true;
  } catch {
    return false; // something was not sure
  }
}

/** The document that a source of HTML makes, without anything of it being loaded or run. */
export function parse(source: string): Document {
  return new DOMParser().parseFromString(source, 'text/html');
}

/** Gives the merge up unless the condition holds. */
function sure(condition: unknown): asserts condition {
  if (!condition) throw 0;
}

/** The edits that turn `doc`, which was made of `old`, into what `next` would make. */
function plan(old: Document, next: Document, doc: Document): (() => void)[] {
  const fixed = fixedIn(old);
  // While the parser is at work, the rest of the old source is still to come.
  sure(doc.readyState !== 'loading' && fixed.join() === fixedIn(next).join());
  const scripted = fixed.some((part) => /^(on|<script(?! [^>]*json))/.test(part));

  const edits: (() => void)[] = [];
  /** The live nodes of those of `old` and `next`, and the parents whose children were looked for. */
  const live = new Map<Node | undefined, Node>();
  const mapped = new Set<Node>();
  const arrivals: (() => void)[] = [];
  const gone: Node[] = [];
  const moved: Node[] = [];

  const liveOf = (node: Node): Node | undefined => {
    const parent = node.parentNode;
    if (!parent) return doc;
    if (!mapped.has(parent)) {
      mapped.add(parent);
      const place = liveOf(parent);
      if (place) mapChildren(childrenOf(parent), childrenOf(place));
    }
    return live.get(node);
  };

  /** Scripts may have added children: one is known if it is found both from the front and from the back. */
  const mapChildren = (from: readonly Node[], to: readonly Node[]) => {
    const [a, b] = [from.map(traitsOf), to.map(traitsOf)];
    const first = align(a, b);
    const last = align(a.reverse(), b.reverse()).reverse();
    first.forEach((j, i) => {
      const [node, found] = [from[i], to[j]];
      if (node && found && last[i] === to.length - 1 - j) live.set(node, found);
    });
  };

  const merge = (from: Node, to: Node) => {
    if (from.isEqualNode(to)) return;
    const node = liveOf(from);
    sure(node);
    if (isText(from) && isText(to) && isText(node)) return mergeText(from, to.data, node);
    if (isElement(from) && isElement(to) && isElement(node)) {
      if (isSheet(to) && attributesOf(from) !== attributesOf(to)) return mergeSheet(from, to, node);
      mergeAttributes(from, to, node);
    } else sure(from === old);
    mergeChildren(from, to, node);
  };

  const mergeText = (from: CharacterData, to: string, node: CharacterData) => {
    // Rules that a script has put into a sheet would be lost.
    sure(withoutTokens(node.data) === from.data && ruleCount(from) === ruleCount(node));
    edits.push(() => {
      node.data = to;
    });
  };

  const mergeSheet = (from: Element, to: Element, node: Element) => {
    // Which of those with a title applies was settled when the page was loaded.
    sure(attributesOf(from) === attributesOf(node) && !from.matches('[title]') && !to.matches('[title]'));
    edits.push(() => {
      const sheet = doc.importNode(to);
      const end = () => node.remove();
      Object.assign(sheet, { onload: end, onerror: end });
      leaving.add(node);
      live.set(to, sheet);
      node.after(sheet);
    });
  };

  const mergeAttributes = (from: Element, to: Element, node: Element) => {
    for (const { name } of [...from.attributes, ...to.attributes]) {
      const [before, after, now = null] = [from, to, node].map((element) => element.getAttribute(name));
      if (before === after || now === after) continue;
      const inClass = name === 'class';
      sure(inClass || name === 'style' || !LOADED_ONCE.test(from.nodeName) || from.matches('picture > *'));
      // A script was told already.
      sure(!scripted || !name.startsWith('data-'));
      if (inClass && now && now !== before) {
        edits.push(() => {
          for (const token of [...from.classList, ...to.classList]) {
            const stays = to.classList.contains(token);
            if (stays !== from.classList.contains(token)) node.classList.toggle(token, stays);
          }
        });
        continue;
      }
      sure((now && withoutTokens(now)) === before);
      const attribute = to.getAttributeNode(name);
      edits.push(() => {
        // Not by its name: a parser takes names that setAttribute() refuses, and some have a namespace.
        if (attribute) node.setAttributeNode(doc.importNode(attribute));
        else node.removeAttribute(name);
      });
    }
  };

  const mergeChildren = (parent: Node, next: Node, place: Node) => {
    const [from, to] = [childrenOf(parent), childrenOf(next)];
    const stays = new Map<Node, Node>();
    align(from.map(traitsOf), to.map(traitsOf), true).forEach((j, i) => {
      const [node, partner] = [from[i], to[j]];
      if (node && partner) stays.set(partner, node);
      else if (node) gone.push(node);
    });
    /** The child before, if it is known where the page has it. */
    let previous: Node | undefined;
    to.forEach((node, i) => {
      const partner = stays.get(node);
      const found = partner && liveOf(partner);
      if (found) live.set(node, found);
      if (partner) merge(partner, node);
      else {
        const after = previous;
        const before = to.slice(i).find((later) => stays.has(later));
        const anchor = before && stays.get(before);
        const isKnown = (child: Node) => from.some((one) => liveOf(one) === child);
        // Among nothing but what scripts have made there is no telling where.
        sure(after || (anchor && liveOf(anchor)) || childrenOf(place).every(isKnown));
        arrivals.push(() => {
          sure(isLoose(node));
          const put = putter(node);
          edits.push(() => put(place, live.get(after)?.nextSibling ?? live.get(before) ?? null));
        });
      }
      previous = partner && !found ? undefined : node;
    });
  };

  /** Decides what becomes a node that is new in its place, and gives what puts it there. */
  const putter = (node: Node): Put => {
    const from = leavers.find(
      (leaver) =>
        leaver.isEqualNode(node) && !moved.some((other) => other.contains(leaver) || leaver.contains(other)),
    );
    sure(!scripted || !isElement(node) || [node, ...(from ? node.querySelectorAll('*') : [])].every(isPlain));
    if (!from) {
      const parts = [...node.childNodes].map(putter);
      return (parent, before) => {
        const made = doc.importNode(node);
        live.set(node, made);
        parent.insertBefore(made, before);
        for (const put of parts) put(made, null);
      };
    }
    const found = liveOf(from);
    sure(found);
    live.set(node, found);
    moved.push(from);
    return (parent, before) => move(found, parent, before);
  };

  const isPlain = ({ nodeName, attributes }: Element) =>
    HEAD.test(nodeName) ||
    (PROSE.test(nodeName) &&
      !attributes.length &&
      // Had a script done something to others of this name, it might have to this one too.
      allAttributes(old, nodeName) === allAttributes(doc, nodeName));

  merge(old, next);
  const leavers = gone.flatMap((node) => (isElement(node) ? [node, ...node.querySelectorAll('*')] : []));
  for (const arrive of arrivals) arrive();
  for (const node of gone) {
    if (isElement(node) && moved.includes(node)) continue;
    const found = liveOf(node);
    sure(found && isLoose(node) && (!scripted || !isElement(node) || found.isEqualNode(node)));
    edits.push(() => found.parentNode?.removeChild(found));
  }
  return edits;
}

/** What moves keeps its focus, its scroll and its animations, where the browser can do that. */
function move(node: Node, parent: Node, before: Node | null): void {
  if (!isElement(parent) || !('moveBefore' in parent)) {
    const { activeElement } = document;
    parent.insertBefore(node, before);
    // WebKit cannot, and is not to lose at least the place where the user types.
    if (activeElement instanceof HTMLElement && node.contains(activeElement)) {
      activeElement.focus({ preventScroll: true });
    }
    return;
  }
  // Animations would start again in what has no style yet.
  parent.getClientRects();
  parent.moveBefore(node, before);
}

function isElement(node: Node): node is Element {
  return 'tagName' in node;
}

function isText(node: Node): node is CharacterData {
  return 'data' in node;
}

function isSheet(element: Element): boolean {
  return element.matches('link[rel~=stylesheet i][href]:not([disabled])');
}

/** Is it the tag that the server puts into each page? It differs from one answer to the next. */
function isOurs(node: Node): boolean {
  return isElement(node) && node.matches('script[data-id][src$="/client.js"]');
}

/** May the node come or go by itself? */
function isLoose(node: Node): boolean {
  return !isElement(node)
    ? isText(node)
    : !fixedIn(node).length && !LOADED_ONCE.test(node.parentNode?.nodeName ?? '');
}

function childrenOf(node: Node): Node[] {
  return [...node.childNodes].filter((child) => !leaving.has(child) && !isOurs(child));
}

/** All that is fixed in a document, or in an element and what it holds. */
function fixedIn(root: Document | Element): string[] {
  return [root, ...root.querySelectorAll('*')].flatMap((node) => {
    if (!isElement(node) || isOurs(node)) return [];
    const parts = [...node.attributes]
      .filter(({ name }) => FIXED_ATTRIBUTE.test(name))
      .map(({ name, value }) => name + value);
    return node.localName.includes('-') || node.matches(FIXED) ? [...parts, node.outerHTML] : parts;
  });
}

function attributesOf(element: Element): string {
  return [...element.attributes]
    .map(({ name, value }) => name + withoutTokens(value))
    .sort()
    .join();
}

function allAttributes(doc: Document, name: string): string {
  return [...doc.getElementsByTagName(name)].map(attributesOf).join(' ');
}

function ruleCount({ parentNode }: Node): number | undefined {
  return parentNode instanceof HTMLStyleElement ? parentNode.sheet?.cssRules.length : 0;
}

function traitsOf(node: Node): Traits {
  const element = isElement(node);
  return {
    kind: element ? [node.nodeName, node.id, node.getAttribute('name')].join() : node.nodeName,
    attributes: element ? attributesOf(node) : '',
    text: node.textContent,
    weight: element ? 1 : 0.25,
  };
}

/** How alike two children are; 0 if they cannot be the same one. */
function likeness(a: Traits | undefined, b: Traits | undefined): number {
  if (!a || a.kind !== b?.kind) return 0;
  return (1 + Number(a.attributes === b.attributes) + 2 * Number(a.text === b.text)) * a.weight;
}

/**
 * Pairs children of two lists, in order, so that they are most alike: the index in `b` for each of `a`, or -1. Of several
 * that are the same the first is taken; the last, if `fromEnd` spares the pairs of all that is the same at the end.
 */
function align(a: readonly Traits[], b: readonly Traits[], fromEnd?: boolean): number[] {
  const isSame = (i: number, j: number) => a[i] && likeness(a[i], b[j]) === likeness(a[i], a[i]);
  let start = 0;
  while (isSame(start, start)) start++;
  let [height, width] = [a.length - start, b.length - start];
  for (; fromEnd && height && width && isSame(start + height - 1, start + width - 1); height--) width--;
  sure(height * width < LIMIT);
  // What can be reached with the pairs of what follows a[start + i] and b[start + j]
  const best: number[][] = [];
  const at = (i: number, j: number) => best[i]?.[j] ?? 0;
  const paired = (i: number, j: number) => {
    const alike = likeness(a[start + i], b[start + j]);
    return alike && alike + at(i + 1, j + 1);
  };
  for (let i = height; i--; ) {
    const row: number[] = [];
    best[i] = row;
    for (let j = width; j--; ) row[j] = Math.max(at(i + 1, j), at(i, j + 1), paired(i, j));
  }
  const pairs = a.map((_, i) => (i < start ? i : i < start + height ? -1 : i - height + width));
  for (let i = 0, j = 0; i < height && j < width; ) {
    if (paired(i, j) && at(i, j) === paired(i, j)) pairs[start + i++] = start + j++;
    else if (at(i, j) === at(i, j + 1)) j++;
    else i++;
  }
  return pairs;
}
