// A reload that keeps your place: scroll, fields, open details, focus and caret, kept for the page that comes next.

/** Milliseconds for which the page is put back in place while its layout grows. */
const LIMIT = 2000;

interface Place {
  readonly scroll: readonly [path: string, left: number, top: number][];
  readonly fields: readonly [path: string, value: string | boolean | readonly boolean[]][];
  readonly open: readonly [path: string, open: boolean][];
  readonly focus?: readonly [path: string, start: number | null, end: number | null];
}

type Field = HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement;

/** A selector of the element that holds after a reload too: from the nearest id down by position. */
export function pathTo(element: Element): string {
  if (element.id) return `#${CSS.escape(element.id)}`;
  const { parentElement: parent } = element;
  if (!parent) return ':root';
  return `${pathTo(parent)}>:nth-child(${[...parent.children].indexOf(element) + 1})`;
}

/** Keeps everything that a reload would lose in sessionStorage. */
export function savePlace(key: string): void {
  const all = [...document.querySelectorAll('*')];
  const fields = all.filter(isField).filter(isTouched);
  const { activeElement: active } = document;
  const caret = active && isField(active) && 'selectionStart' in active ? active : undefined;
  const place: Place = {
    scroll: all
      .filter((element) => element.scrollTop || element.scrollLeft)
      .map((element) => [pathTo(element), element.scrollLeft, element.scrollTop]),
    fields: fields.map((field) => [pathTo(field), contentOf(field)]),
    open: all.filter((element) => element instanceof HTMLDetailsElement).map((it) => [pathTo(it), it.open]),
    ...(active && active !== document.body
      ? { focus: [pathTo(active), caret?.selectionStart ?? null, caret?.selectionEnd ?? null] }
      : {}),
  };
  sessionStorage.setItem(key, JSON.stringify(place));
}

function isField(element: Element): element is Field {
  return /^(input|textarea|select)$/.test(element.localName);
}

/** Has the user changed it? Secrets and files stay out, and what a script keeps in a hidden field is the script's. */
function isTouched(field: Field): boolean {
  if (/^(password|file|hidden)$/.test(field.type)) return false;
  if ('options' in field) return [...field.options].some((it) => it.selected !== it.defaultSelected);
  const checked = 'checked' in field && field.checked !== field.defaultChecked;
  return checked || field.value !== field.defaultValue;
}

function contentOf(field: Field): string | boolean | readonly boolean[] {
  if ('options' in field) return [...field.options].map(({ selected }) => selected);
  return /^(checkbox|radio)$/.test(field.type) && 'checked' in field ? field.checked : field.value;
}

/** Puts everything back once, again and again while the page is built and laid out, until the user takes over. */
export function restorePlace(key: string): void {
  const place: Place = JSON.parse(sessionStorage.getItem(key) ?? '');
  sessionStorage.removeItem(key);
  let fields = place.fields;
  let open = place.open;
  let focus = place.focus;
  const end = performance.now() + LIMIT;
  let over = false;

  const find = (path: string) => document.querySelector(path);
  const put = () => {
    if (over) return;
    open = open.filter(([path, value]) => {
      const element = find(path);
      if (element instanceof HTMLDetailsElement) element.open = value;
      return !element;
    });
    fields = fields.filter(([path, value]) => {
      const element = find(path);
      if (element && isField(element)) setValue(element, value);
      return !element;
    });
    if (focus && document.activeElement === document.body) focus = refocus(focus, find);
    for (const [path, left, top] of place.scroll) find(path)?.scrollTo({ left, top, behavior: 'instant' });
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

function setValue(field: Field, value: string | boolean | readonly boolean[]): void {
  if (typeof value === 'string') field.value = value;
  else if (typeof value === 'boolean') (field as HTMLInputElement).checked = value;
  else if ('options' in field)
    for (const [i, option] of [...field.options].entries()) option.selected = value[i] ?? false;
}

function refocus(focus: NonNullable<Place['focus']>, find: (path: string) => Element | null): Place['focus'] {
  const [path, start, end] = focus;
  const element = find(path);
  if (!(element instanceof HTMLElement)) return focus;
  element.focus({ preventScroll: true });
  if (start !== null) (element as HTMLInputElement).setSelectionRange(start, end);
  return undefined;
}
