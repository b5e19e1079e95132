// A reload that keeps your place: scroll, fields, open details and dialogs, media, focus and caret, kept for the page that
// comes next. Fetched when a page is about to be left, and by the one that comes, before anything else.

/** Milliseconds for which the page is put back in place while its layout grows. */
const LIMIT = 2000;

type Call = readonly [method: string, ...args: unknown[]];
/** What an element has, and what was done to it. */
type State = readonly [properties: object, ...calls: Call[]];

interface Place {
  readonly scroll: readonly [path: string, left: number, top: number][];
  readonly states: readonly [path: string, ...State][];
}

/** A selector of the element that holds after a reload too: from the nearest id down by position. */
export function pathTo(element: Element): string {
  if (element.id) return `#${CSS.escape(element.id)}`;
  const { parentElement: parent } = element;
  if (!parent) return ':root';
  return `${pathTo(parent)}>:nth-child(${[...parent.children].indexOf(element) + 1})`;
}

/** Keeps everything that a reload would lose in sessionStorage. */
export function savePlace(key: string): void {
  const scroll: Place['scroll'][number][] = [];
  const states: Place['states'][number][] = [];
  for (const element of document.querySelectorAll<HTMLElement>('*')) {
    const { scrollLeft, scrollTop } = element;
    if (scrollLeft || scrollTop) scroll.push([pathTo(element), scrollLeft, scrollTop]);
    const state = stateOf(element);
    if (state) states.push([pathTo(element), ...state]);
  }
  const { activeElement: active } = document;
  if (active && active !== document.body) states.push([pathTo(active), {}, ...focusOf(active)]);
  sessionStorage.setItem(key, JSON.stringify({ scroll, states } satisfies Place));
}

/** Secrets and files stay out, and what a script keeps in a hidden field is the script's. */
function stateOf(element: HTMLElement): State | undefined {
  if (element instanceof HTMLMediaElement) {
    const { currentTime, muted, volume, paused } = element;
    return [{ currentTime, muted, volume }, [paused ? 'pause' : 'play']];
  }
  if (element.popover && element.matches(':popover-open')) return [{}, ['showPopover']];
  if (element instanceof HTMLDialogElement && element.matches(':modal')) return [{}, ['showModal']];
  const {
    localName,
    open,
    type,
    value,
    defaultValue,
    checked,
    defaultChecked,
    selected,
    defaultSelected,
    autocomplete,
  } = element as Partial<HTMLInputElement & HTMLOptionElement & HTMLDialogElement>;
  if (/-/.test(localName ?? '')) return; // may be no more than a name when it is put back
  if (localName === 'dialog' && !open) return [{}, ['close']]; // a script may have opened it at once
  if (/^(details|dialog)$/.test(localName ?? '')) return [{ open }];
  if (selected !== defaultSelected) return [{ selected }];
  if (checked !== defaultChecked) return [{ checked }];
  // The browser's word for a password that is shown as text is its autocomplete.
  const isOpen = !/password|file|hidden|checkbox|radio|output/.test(`${type} ${autocomplete}`);
  if (defaultValue !== undefined && isOpen && value !== defaultValue) return [{ value }];
}

function focusOf(element: Element): Call[] {
  const calls: Call[] = [['focus', { preventScroll: true }]];
  const { selectionStart: start, selectionEnd: end } = element as Partial<HTMLInputElement>;
  if (start != null) calls.push(['setSelectionRange', start, end]);
  return calls;
}

/** Puts everything back once, again and again while the page is built and laid out, until the user takes over. */
export function restorePlace(key: string): void {
  const place: Place = JSON.parse(sessionStorage.getItem(key) ?? '');
  sessionStorage.removeItem(key);
  let { states } = place;
  const end = performance.now() + LIMIT;
  let over = false;

  const put = () => {
    if (over) return;
    states = states.filter(([path, properties, ...calls]) => {
      const element = document.querySelector(path);
      if (element) void restore(element, properties, calls);
      return !element;
    });
    for (const [path, left, top] of place.scroll) {
      document.querySelector(path)?.scrollTo({ left, top, behavior: 'instant' });
    }
  };
  const frame = () => {
    put();
    if (!over && performance.now() < end) requestAnimationFrame(frame);
  };
  for (const type of ['wheel', 'touchstart', 'keydown', 'mousedown']) {
    addEventListener(type, () => (over = true), { once: true, passive: true, capture: true });
  }
  addEventListener('load', put);
  frame();
}

async function restore(element: Element, properties: object, calls: readonly Call[]): Promise<void> {
  Object.assign(element, properties);
  for (const [method, ...args] of calls) {
    try {
      // Called one after the other, without waiting
      const target = element as unknown as Record<string, (...args: unknown[]) => unknown>;
      await target[method]?.(...args);
    } catch {} // refused: nobody has touched the page yet, or it is open already
  }
}
