// A failed build, over the page: what failed, where, and what the command said. Loaded only when there is a failure.
// The page may be broken itself, so nothing of it is relied on: no body, no style of its own, no lax policy.

import type { Failure } from '../src/events.ts';

/** Only a place that the failure names: the server opens no other. */
type Place = [file: string, line?: number, column?: number];

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
.s1{font-weight:bold}.s2{opacity:.7}.s3{font-style:italic}`;

// Hues of red, green, yellow, blue, magenta and cyan.
const HUES = [0, 25, 145, 85, 255, 320, 200];

// A place as compilers write it: a.ts:3:7, a.ts(3,7), a.scss 3:7, "a.py", line 3, a.php on line 3. Codes of colours
// may be in between, as some paint the name, the line and the column differently.
const SGR = '(?:\x1b\\[[\\d;]*m)*';
const PLACE = new RegExp(
  `${SGR}([^\\s"'\`():,;<>|\x1b]{1,200}\\.[a-z]\\w{0,9})${SGR}(?:[:(]|"?,? (?:on )?line | (?=\\d+:\\d))${SGR}(\\d+)(?:${SGR}[:,]${SGR}(\\d+))?`,
  'gi',
);

let dismiss = (): unknown => undefined;

/** Shows a failure over the page; one that is shown is replaced. The user can dismiss it. */
export function showFailure(failure: Failure): void {
  dismiss();
  const { message, file, line, column, frame, output, stack } = failure;
  const host = element('live-sse-overlay');
  const dialog = element('dialog') as HTMLDialogElement;
  const add = (tag: string, text = '', className = '') => {
    if (text) dialog.append(element(tag, [paint(text)], className));
  };

  dialog.append(button('Close', () => dismiss(), 'x'));
  add('h1', message);
  if (file) {
    const place = [file, line, column].filter(Boolean) as Place;
    dialog.append(element('p', [link(place.join(':'), place)], 'at'));
  }
  // The line above the mark, and the mark.
  add('pre', frame?.replace(/^.*\n[^\w\n]*\^.*$/m, '\x1b[31m$&\x1b[m'), 'frame');
  add('pre', output);
  add('pre', stack);
  add('p', 'Esc or the next good build closes this', 's2');
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

function button(text: string, onClick: () => void, className?: string): HTMLElement {
  const made = element('button', [text], className);
  made.onclick = onClick;
  return made;
}

/** Opens a place in the developer's editor, or says beside it why that cannot be done. */
function link(text: string, place: Place): HTMLElement {
  const made = button(text, async () => {
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

/** Attributes by their code (1 bold, 2 dim, 3 italic, 4 underlined, 7 inverse), and colours as CSS has them. */
interface Style {
  [code: number]: true;
  color?: string;
  back?: string;
}

// What isn't a colour: the cursor, the window's title, links; and what a line of progress was before.
// biome-ignore lint/suspicious/noControlCharactersInRegex: terminals are told so
const NOISE = /\x1b(?!\[[\d;]*m)(\[[^@-~]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)|^.*\r(?=.)/gm;

/** The nodes of a terminal's output: with its colours, and places in files as buttons. */
function paint(text: string): DocumentFragment {
  const root = document.createDocumentFragment();
  let parent: Node = root;
  let style: Style = {};
  const buttons: HTMLElement[] = [];
  text
    .replace(NOISE, '')
    .replace(PLACE, (place, file, line, column) => {
      if (/^[/\\~]/.test(file)) return place;
      buttons.push(link('', [file, +line, +column]));
      return `\x1b<${place}\x1b>`;
    })
    // biome-ignore lint/suspicious/noControlCharactersInRegex: see above
    .split(/\x1b(<|>|\[[\d;]*m)/)
    .forEach((part, i) => {
      if (i % 2 < 1) parent.appendChild(span(part, style));
      else if (part === '<') parent = root.appendChild(buttons.shift() ?? root);
      else if (part === '>') parent = root;
      else style = restyle(style, part.slice(1, -1).split(';').map(Number));
    });
  return root;
}

function span(text: string, style: Style): HTMLElement {
  const classes = Object.keys(style).map((code) => `s${code}`);
  const made = element('span', [text], classes.join(' '));
  const back = style[7] ? style.color || 'CanvasText' : style.back;
  made.style.background = back || '';
  made.style.color = (back ? 'Canvas' : style.color) || '';
  return made;
}

/** Select Graphic Rendition, ECMA-48 section 8.3.117. */
function restyle(style: Style, codes: number[]): Style {
  let next = { ...style };
  while (codes.length) {
    const code = codes.shift() || 0;
    const digit = code % 10;
    const tens = (code - digit) / 10;
    if (!code) next = {};
    else if (tens < 1) next[code] = true;
    else if (tens < 3) {
      delete next[digit];
      if (digit < 3) delete next[1]; // 22 is neither bold nor dim
    } else {
      next[tens === 4 || tens > 9 ? 'back' : 'color'] = digit === 8 ? extended(codes) : named(digit);
    }
  }
  return next;
}

/** Black is grey; white, and what resets a colour, are the usual text's. */
function named(digit: number): string {
  return digit > 6 ? '' : `oklch(var(--l) ${digit && 0.14} ${HUES[digit]})`;
}

/** One of 256 colours (5;n), or any (2;r;g;b), at the lightness that can be read. */
function extended(codes: number[]): string {
  const [mode, n = 0, g, b] = codes.splice(0, codes[0] === 5 ? 2 : 4);
  if (mode === 5 && n < 16) return named(n % 8);
  // A cube of 6 × 6 × 6, then shades of grey.
  const i = n > 231 ? 0 : n - 16;
  const rgb = mode === 5 ? [i / 36, (i / 6) % 6, i % 6].map((level) => (level | 0) * 51) : [n, g, b];
  return `oklch(from rgb(${rgb}) var(--l) c h)`;
}
