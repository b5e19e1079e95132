// An edit of the page's own HTML, merged three ways: what differs between the old and the new source is done to the
// live nodes that the old source's nodes became, so what scripts have built since, and what the user did, stays.
// All edits are decided before the first is made. Whatever is not sure to end where a reload would is left to a reload.

/** What cannot be changed afterwards: it has had its effect when it was parsed. */
const FIXED = 'script,template,noscript,base,frameset,[http-equiv]';
const FIXED_ATTRIBUTE = /^(on.*|nonce|integrity|is|charset)$/;
/** Elements that look at their attributes or children once, or lose what they show when one is set. */
const LOADED_ONCE = /^(I?FRAME|OBJECT|EMBED|PARAM|CANVAS|VIDEO|AUDIO|SOURCE|TRACK)$/;
const HARMLESS = /^(class|style|title|lang|dir|role|alt|aria-.*)$/;
/** Elements that no script is likely to set up: those of the head, and what is merely text. */
const HEAD = /^(TITLE|META|LINK|STYLE)$/;
const PROSE = /^(P|BR|WBR|HR|B|I|EM|STRONG|SMALL|SUB|SUP|MARK|DEL|INS|S|U|Q|CITE|BLOCKQUOTE)$/;
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

/** One element in the old source, in the new one and in the page. */
interface Trio {
  readonly from: Element;
  readonly to: Element;
  readonly node: Element;
}

/** A node of the new source that the old one does not have in this place. */
interface Arrival {
  readonly node: Node;
  readonly parent: Node;
  /** The one before it, if the page has it for sure. */
  readonly after: Node | undefined;
  /** The next one that is not new. */
  readonly before: Node | undefined;
}

/**
 * Does to the live document what differs between two sources of it: all of it, or nothing.
 *
 * @param oldSource the HTML that the document was made of, or that was merged into it last
 * @returns `false` if only a reload is sure to be right
 */
export function mergeHtml(oldSource: string, newSource: string, doc: Document = document): boolean {
  try {
    for (const edit of plan(parse(oldSource), parse(newSource), doc)) edit();
    return true;
  } catch {
    return false; // something was not sure
  }
}

function parse(source: string): Document {
  return new DOMParser().parseFromString(source, 'text/html');
}

/** Gives the merge up unless the condition holds. */
function sure(condition: unknown): asserts condition {
  if (!condition) throw new Error('Reload');
}

/** The edits that turn `doc`, which was made of `old`, into what `next` would make. */
function plan(old: Document, next: Document, doc: Document): (() => void)[] {
  // While the parser is at work, the rest of the old source is still to come.
  sure(doc.contentType === 'text/html' && doc.readyState !== 'loading');
  const fixed = fixedIn(old);
  sure(old.compatMode === next.compatMode && fixed.join() === fixedIn(next).join());
  const scripted = fixed.some((part) => part.startsWith('on')) || [...old.scripts].some(isExecuted);

  const edits: (() => void)[] = [];
  const mapped = new Set<Node>();
  /** The live nodes of those of `old` and `next`. */
  const live = new Map<Node | undefined, Node>();
  const gone: Node[] = [];
  const come: Arrival[] = [];
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
  const mapChildren = (from: readonly ChildNode[], to: readonly ChildNode[]) => {
    const [a, b] = [from.map(traitsOf), to.map(traitsOf)];
    const first = align(a, b);
    const last = align(a.reverse(), b.reverse()).reverse();
    from.forEach((node, i) => {
      const j = first[i] ?? -1;
      const found = to[j];
      if (found && last[i] === to.length - 1 - j) live.set(node, found);
    });
  };

  const merge = (from: Node, to: Node) => {
    if (from.isEqualNode(to)) return;
    const node = liveOf(from);
    sure(node && from.nodeType !== Node.DOCUMENT_TYPE_NODE);
    if (isText(from) && isText(to) && isText(node)) return mergeText(from, to.data, node);
    if (isElement(from) && isElement(to) && isElement(node)) {
      if (isSheet(to) && attributesOf(from) !== attributesOf(to)) return mergeSheet({ from, to, node });
      const names = [...from.attributes, ...to.attributes].map(({ name }) => name);
      for (const name of new Set(names)) mergeAttribute(name, { from, to, node });
    }
    mergeChildren(from, to, node);
  };

  const mergeText = (from: CharacterData, to: string, node: CharacterData) => {
    sure(unversioned(node.data) === from.data);
    // Rules that a script has put into a sheet would be lost.
    sure(ruleCount(from.parentNode) === ruleCount(node.parentNode));
    edits.push(() => replaceText(node, to));
  };

  const mergeSheet = ({ from, to, node }: Trio) => {
    sure(attributesOf(from) === attributesOf(node));
    // Which of those with a title applies was settled when the page was loaded.
    sure(!from.hasAttribute('title') && !to.hasAttribute('title'));
    edits.push(() => {
      const sheet = doc.importNode(to);
      for (const type of ['load', 'error']) sheet.addEventListener(type, () => node.remove(), { once: true });
      leaving.add(node);
      live.set(to, sheet);
      node.after(sheet);
    });
  };

  const mergeAttribute = (name: string, { from, to, node }: Trio) => {
    const [before, after, now = null] = [from, to, node].map((element) => element.getAttribute(name));
    if (before === after || now === after) return;
    sure(!LOADED_ONCE.test(from.nodeName) || HARMLESS.test(name) || from.parentNode?.nodeName === 'PICTURE');
    // A script has been told already.
    sure(!scripted || !name.startsWith('data-'));
    if (name === 'class' && now && now !== before) {
      const [was, is] = [from.classList, to.classList];
      edits.push(() => {
        node.classList.remove(...[...was].filter((token) => !is.contains(token)));
        node.classList.add(...[...is].filter((token) => !was.contains(token)));
      });
      return;
    }
    sure(now === before || (now && unversioned(now) === before));
    const attribute = to.getAttributeNode(name);
    edits.push(() => {
      // Not by its name: a parser takes names that setAttribute() refuses, and some have a namespace.
      if (attribute) node.setAttributeNode(doc.importNode(attribute));
      else node.removeAttribute(name);
    });
  };

  const mergeChildren = (parent: Node, next: Node, place: Node) => {
    const [from, to] = [childrenOf(parent), childrenOf(next)];
    const stays = new Map<Node | undefined, Node>();
    align(from.map(traitsOf), to.map(traitsOf)).forEach((j, i) => {
      const [node, partner] = [from[i], to[j]];
      if (node && partner) stays.set(partner, node);
      else if (node) gone.push(node);
    });
    const sources = new Map(from.map((node) => [liveOf(node), node]));
    let after: Node | undefined;
    to.forEach((node, i) => {
      const partner = stays.get(node);
      const found = partner && liveOf(partner);
      if (partner) {
        if (found) live.set(node, found);
        merge(partner, node);
      } else {
        const before = to.slice(i).find((later) => stays.has(later));
        const anchor = stays.get(before);
        // Among nothing but what scripts have made there is no telling where.
        sure(after || (anchor && liveOf(anchor)) || childrenOf(place).every((child) => sources.has(child)));
        come.push({ node, parent: place, after, before });
      }
      after = partner && !found ? undefined : node;
    });
  };

  const add = ({ node, parent, after, before }: Arrival) => {
    sure(isLoose(node));
    const place = putter(node);
    edits.push(() => {
      const previous = live.get(after);
      place(parent, previous ? previous.nextSibling : (live.get(before) ?? null));
    });
  };

  /** Decides what becomes a node that is new in its place, and gives what puts it there. */
  const putter = (node: Node): Put => {
    const from = leavers.find((leaver) => isMoved(leaver, node));
    sure(
      !scripted || !isElement(node) || (from ? [from, ...from.querySelectorAll('*')] : [node]).every(isPlain),
    );
    if (!from) {
      const parts = [...node.childNodes].map(putter);
      return (parent, before) => {
        const made = put(doc.importNode(node), parent, before);
        live.set(node, made);
        for (const part of parts) part(made, null);
      };
    }
    const found = liveOf(from);
    sure(found);
    live.set(node, found);
    moved.push(from);
    merge(from, node);
    return (parent, before) => {
      // Animations start again in what has no style yet.
      if (isElement(parent)) parent.getClientRects();
      put(found, parent, before);
    };
  };

  const isMoved = (leaver: Element, node: Node) =>
    (leaver.isEqualNode(node) || isNamesake(leaver, node)) &&
    !moved.some((other) => other.contains(leaver) || leaver.contains(other));

  const isPlain = ({ nodeName, attributes }: Element) =>
    HEAD.test(nodeName) ||
    (PROSE.test(nodeName) &&
      attributes.length === 0 &&
      // Had a script done something to others of its name, it might have to this one too.
      allAttributes(old, nodeName) === allAttributes(doc, nodeName));

  const remove = (node: Node) => {
    const found = liveOf(node);
    sure(found && isLoose(node) && (moved.includes(node) || !scripted || found.isEqualNode(node)));
    if (!moved.includes(node)) edits.push(() => found.parentNode?.removeChild(found));
  };

  merge(old, next);
  const leavers = gone.flatMap((node) => (isElement(node) ? [node, ...node.querySelectorAll('*')] : []));
  // Both grow while what has been moved is merged.
  for (const arrival of come) add(arrival);
  for (const node of gone) remove(node);
  return edits;
}

function put<T extends Node>(node: T, parent: Node, before: Node | null): T {
  // What moves keeps its focus, its scroll and its animations where the browser can do that.
  if (node.isConnected && 'moveBefore' in parent && typeof parent.moveBefore === 'function') {
    parent.moveBefore(node, before);
  } else parent.insertBefore(node, before);
  return node;
}

function isElement(node: Node): node is Element {
  return node.nodeType === Node.ELEMENT_NODE;
}

function isText(node: Node): node is CharacterData {
  return node.nodeType === Node.TEXT_NODE || node.nodeType === Node.COMMENT_NODE;
}

function isSheet(element: Element): boolean {
  return element.matches('link[rel~=stylesheet i][href]:not([disabled])');
}

/** The tag that the server puts into each page: it differs from one answer to the next. */
function isOurs(element: Element): boolean {
  return element.matches('script[data-id][src$="/client.js"]');
}

function isExecuted(script: HTMLScriptElement): boolean {
  return !isOurs(script) && /^$|script|module|map/.test(script.type);
}

function isNamesake(from: Element, to: Node): boolean {
  return isElement(to) && from.id !== '' && !isSheet(to) && traitsOf(from).kind === traitsOf(to).kind;
}

/** May the node come or go by itself? */
function isLoose(node: Node): boolean {
  if (!isElement(node)) return node.nodeType !== Node.DOCUMENT_TYPE_NODE;
  return fixedIn(node).length === 0 && !LOADED_ONCE.test(node.parentNode?.nodeName ?? '');
}

function childrenOf(node: Node): ChildNode[] {
  return [...node.childNodes].filter((child) => !leaving.has(child) && !(isElement(child) && isOurs(child)));
}

/** All that is fixed in a document, or in an element and what it holds. */
function fixedIn(root: Document | Element): string[] {
  return [root, ...root.querySelectorAll('*')].flatMap((node) => {
    if (!isElement(node) || isOurs(node)) return [];
    const parts = [...node.attributes]
      .filter(({ name }) => FIXED_ATTRIBUTE.test(name))
      .map(({ name, value }) => `${name}=${value}`);
    return node.localName.includes('-') || node.matches(FIXED) ? [...parts, node.outerHTML] : parts;
  });
}

/** A URL, or text with URLs, as it was before files of the page were swapped. */
function unversioned(text: string): string {
  return text.replace(/[?&]live-sse=[\w-]*/g, '');
}

function attributesOf(element: Element): string {
  return [...element.attributes]
    .map(({ name, value }) => `${name}=${unversioned(value)}`)
    .sort()
    .join();
}

function allAttributes(doc: Document, name: string): string {
  return [...doc.getElementsByTagName(name)].map(attributesOf).join(' ');
}

function ruleCount(node: Node | null): number | undefined {
  return node && isElement(node) && node.matches('style')
    ? (node as HTMLStyleElement).sheet?.cssRules.length
    : 0;
}

function traitsOf(node: Node): Traits {
  const element = isElement(node);
  return {
    kind: element ? `${node.nodeName}#${node.id} ${node.getAttribute('name')}` : node.nodeName,
    attributes: element ? attributesOf(node) : '',
    text: node.textContent,
    weight: element ? 1 : 0.25,
  };
}

/** How alike two children are, at most `4 * weight`; 0 if they cannot be the same one. */
function likeness(a: Traits | undefined, b: Traits | undefined): number {
  if (!a || a.kind !== b?.kind) return 0;
  return (1 + Number(a.attributes === b.attributes) + 2 * Number(a.text === b.text)) * a.weight;
}

/** Pairs the children of two lists, in order, so that they are most alike: gives the index in `b`, or -1, for each of `a`. */
function align(a: readonly Traits[], b: readonly Traits[]): number[] {
  let start = 0;
  for (let one = a[0]; one && likeness(one, b[start]) === 4 * one.weight; one = a[start]) start++;
  const [height, width] = [a.length - start, b.length - start + 1];
  sure(height * width < LIMIT);
  // best[i * width + j]: of the pairs that can be made of what follows a[start + i] and b[start + j]
  const best = new Float32Array((height + 1) * width);
  const at = (i: number, j: number) => best[i * width + j] ?? 0;
  for (let i = height - 1; i >= 0; i--) {
    for (let j = width - 2; j >= 0; j--) {
      const alike = likeness(a[start + i], b[start + j]);
      best[i * width + j] = Math.max(at(i + 1, j), at(i, j + 1), alike && alike + at(i + 1, j + 1));
    }
  }
  const pairs = a.map((_, i) => (i < start ? i : -1));
  for (let i = 0, j = 0; i < height && j < width - 1; ) {
    const alike = likeness(a[start + i], b[start + j]);
    if (alike && at(i, j) === alike + at(i + 1, j + 1)) pairs[start + i++] = start + j++;
    else if (at(i, j) === at(i, j + 1)) j++;
    else i++;
  }
  return pairs;
}

/** Changes the part that differs, so that a selection in the rest stays. */
function replaceText(node: CharacterData, to: string): void {
  const from = node.data;
  const most = Math.min(from.length, to.length);
  let start = 0;
  while (start < most && from[start] === to[start]) start++;
  let end = 0;
  while (end < most - start && from[from.length - 1 - end] === to[to.length - 1 - end]) end++;
  node.replaceData(start, from.length - start - end, to.slice(start, to.length - end));
}
