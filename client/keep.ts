// What a reload would lose, kept for the page that comes next: scroll, fields, open details and dialogs, media, focus and
// caret. Fetched when a page is about to be left; restore.ts is in every page and puts it back.

import type { Call, Place, State } from './restore.ts';

/** What an element has, and what was done to it. */
type Kept = readonly [properties: object, ...calls: Call[]];

/**
 * A selector of the element that holds after a reload too: from the nearest id down by position. Names keep out what is at
 * that position while the page is built.
 */
export function pathTo(element: Element): string {
  if (element.id) return `#${CSS.escape(element.id)}`;
  const { parentElement: parent, localName } = element;
  if (!parent) return ':root';
  const name = element.getAttribute('name');
  const named = name === null ? '' : `[name="${CSS.escape(name)}"]`;
  return `${pathTo(parent)}>${CSS.escape(localName)}${named}:nth-child(${[...parent.children].indexOf(element) + 1})`;
}

/** Keeps everything that a reload would lose in sessionStorage. */
export function savePlace(key: string): void {
  const scroll: State[] = [];
  const states: State[] = [];
  for (const element of document.querySelectorAll<HTMLElement>('*')) {
    const { scrollLeft: left, scrollTop: top } = element;
    if (left || top) scroll.push([pathTo(element), {}, ['scrollTo', { left, top, behavior: 'instant' }]]);
    const state = stateOf(element);
    if (state) states.push([pathTo(element), ...state]);
  }
  const { activeElement: active } = document;
  if (active && active !== document.body) states.push([pathTo(active), {}, ...focusOf(active)]);
  sessionStorage.setItem(key, JSON.stringify([states, scroll] satisfies Place));
}

/** Secrets and files stay out, and what a script keeps in a hidden field is the script's. */
function stateOf(element: HTMLElement): Kept | undefined {
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
