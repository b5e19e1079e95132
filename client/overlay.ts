// A failed build, over the page: what failed, where, and what the command said. Loaded only when there is a failure.
// The page may be broken itself, so nothing of it is relied on: no body, no style of its own, no lax policy.

import type { Painted, PaintedFailure, Piece, Place } from '../src/events.ts';

// `!important` inside a shadow root beats the page's own, also that of a style attribute. The system's colours follow
// light and dark by themselves; --l is the lightness at which any hue can be read on them.
const CSS = `:host{all:initial!important;position:fixed!important}
dialog{direction:ltr;--l:.5;color-scheme:light dark;box-sizing:border-box;width:920px;max-height:calc(100% - 64px);margin:32px auto;padding:24px;overflow:auto;overflow-wrap:anywhere;border:1px solid #8885;border-top:4px solid #e5484d;border-radius:12px;background:Canvas;color:CanvasText;font:14px/1.5 system-ui;box-shadow:0 16px 32px #0006;outline:0}
@media(prefers-color-scheme:dark){dialog{--l:.78}}
dialog::backdrop{background:#0006}
h1{margin:0;font-size:17px}
pre,p{margin:12px 0 0}
pre{padding:12px;overflow:auto;border-radius:8px;background:#8881;white-space:pre-wrap}
pre,.at{font:13px/1.5 ui-monospace,monospace}
.frame{white-space:pre}
button{all:unset;cursor:pointer;color:oklch(var(--l) .14 255)}
button,.s4{text-decoration:underline}
button:focus-visible{outline:2px solid}
.x{float:right;position:sticky;top:0;margin-left:24px}
.s1{font-weight:700}.s2{opacity:.7}.s3{font-style:italic}`;

let dismiss = (): unknown => undefined;

/** Shows a failure over the page; one that is shown is replaced, `null` only removes it. The user can dismiss it. */
export function showFailure(failure: PaintedFailure | null): void {
  dismiss();
  if (!failure) return;
  const { message, file, line, column, painted } = failure;
  const host = element('live-sse-overlay');
  const dialog = element('dialog') as HTMLDialogElement;
  const add = (tag: string, name: keyof Painted) => {
    const pieces = painted?.[name] ?? [failure[name] ?? ''];
    if (pieces[0]) dialog.append(element(tag, nodesOf(pieces), name));
  };

  dialog.append(button(['Close'], () => dismiss(), 'x'));
  add('h1', 'message');
  if (file) {
    const place = [file, line, column].filter(Boolean) as unknown as Place;
    dialog.append(element('p', [link([place.join(':')], place)], 'at'));
  }
  for (const name of ['frame', 'output', 'stack'] as const) add('pre', name);
  dialog.append(element('p', ['Esc or the next good build closes this'], 's2'));
  dialog.tabIndex = -1;
  dialog.role = 'alertdialog';
  dialog.ariaLabel = message;
  host.onkeydown = (event) => event.stopPropagation(); // the page's shortcuts
  const shadow = host.attachShadow({ mode: 'open' });
  shadow.append(dialog);
  setStyle(shadow);

  const root = document.documentElement ?? document.appendChild(element('html'));
  const { display } = root.style;
  dismiss = dialog.onclose = () => {
    dialog.onclose = null; // it comes later, when another failure may be shown
    dialog.close(); // gives the focus back
    host.remove();
    root.style.display = display;
  };
  root.append(host);
  // Modal: only so is it above the page's own dialogs, and usable while one is open.
  dialog.showModal();
  // A page that hides itself until its scripts have run. In an SVG document, nothing of HTML can be shown.
  if (!dialog.offsetHeight) root.style.setProperty('display', 'block', 'important');
  if (!dialog.offsetHeight) dismiss();
  dialog.focus();
}

/** Removes the failure that is shown, if one is; the focus goes back to where it was. */
export function hideFailure(): void {
  dismiss();
}

function setStyle(shadow: ShadowRoot): void {
  try {
    const sheet = new CSSStyleSheet(); // a content security policy lets it through
    sheet.replaceSync(CSS);
    shadow.adoptedStyleSheets = [sheet];
  } catch {
    shadow.append(element('style', [CSS]));
  }
}

/** Also where the document is XML. */
function element(tag: string, children: readonly (Node | string)[] = [], className = ''): HTMLElement {
  const made = document.createElementNS('http://www.w3.org/1999/xhtml', tag) as HTMLElement;
  made.className = className;
  made.append(...children);
  return made;
}

function button(children: readonly (Node | string)[], onClick: () => void, className?: string): HTMLElement {
  const made = element('button', children, className);
  made.onclick = onClick;
  return made;
}

/** Opens a place in the developer's editor, or says beside it why that cannot be done. The server opens no other. */
function link(children: readonly (Node | string)[], place: Place): HTMLElement {
  const made = button(children, async () => {
    const request = {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(place),
    };
    const asked = fetch(new URL('open', import.meta.url), request);
    made.after(' ', await asked.then((res) => res.text(), String));
  });
  return made;
}

/** Nodes of what the server has painted. Each is text, however it looks like markup. */
function nodesOf(pieces: readonly Piece[]): (Node | string)[] {
  return pieces.map((piece) => {
    if (typeof piece === 'string') return piece;
    if ('place' in piece) return link(nodesOf(piece.runs), piece.place);
    const { text, look, color = '', back = '' } = piece;
    const span = element('span', [text], look);
    // Not by an attribute: a policy may forbid those. No other property, and of that none but a colour.
    span.style.color = color;
    span.style.backgroundColor = back;
    return span;
  });
}
