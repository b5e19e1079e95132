// What a command has printed → pieces that a page can show: text in its colours, and places in files that can be opened.
// Pure, and data only: what is markup stays text.

import type { Failure, Painted, Piece, Run } from './events.ts';

/** Attributes by their code (1 bold, 2 dim, 3 italic, 4 underlined, 7 inverse), and colours as CSS has them. */
interface Style {
  readonly codes: readonly number[];
  readonly color?: string;
  readonly back?: string;
}

const PLAIN: Style = { codes: [] };

// What isn't a colour: the cursor, the window's title, links; and what a line of progress was before.
// biome-ignore lint/suspicious/noControlCharactersInRegex: terminals are told so
const NOISE = /\x1b(?!\[[\d;]*m)(\[[^@-~]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)|^.*\r(?=.)/gm;

// A place as compilers write it: a.ts:3:7, a.ts(3,7), a.scss 3:7, "a.py", line 3, a.php on line 3. Codes of colours
// may be in between, as some paint the name, the line and the column differently.
const SGR = '(?:\x1b\\[[\\d;]*m)*';
const PLACE = new RegExp(
  `${SGR}([^\\s"'\`():,;<>|\x1b]{1,200}\\.[a-z]\\w{0,9})${SGR}(?:[:(]|"?,? (?:on )?line | (?=\\d+:\\d))${SGR}(\\d+)(?:${SGR}[:,]${SGR}(\\d+))?`,
  'gi',
);

/** The shown lightness is the page's, which follows light and dark: any hue can be read on either. */
const LIGHTNESS = 'var(--l)';
/** Hues of red, green, yellow, blue, magenta and cyan. */
const HUES = [0, 25, 145, 85, 255, 320, 200];

const TEXTS = ['message', 'frame', 'output', 'stack'] as const;

/** The texts of a failure in which there is more to be seen than text, in pieces. */
export function paintFailure(failure: Failure): Painted {
  // The line above the mark, and the mark.
  const frame = failure.frame?.replace(/^.*\n[^\w\n]*\^.*$/m, '\x1b[31m$&\x1b[m');
  const painted: Partial<Record<(typeof TEXTS)[number], Piece[]>> = {};
  for (const name of TEXTS) {
    const text = (name === 'frame' ? frame : failure[name]) ?? '';
    const pieces = paint(text);
    if (pieces.length > 1 || (pieces[0] ?? '') !== text) painted[name] = pieces;
  }
  return painted;
}

/** The pieces of a terminal's output; what has no colour, and names no place, is a text. */
export function paint(text: string): Piece[] {
  const pieces: Piece[] = [];
  /** Where pieces go at the moment: those of a place are together. */
  let target: Piece[] = pieces;
  let style = PLAIN;
  const places: [file: string, line: number, column?: number][] = [];
  const parts = text
    .replace(NOISE, '')
    .replace(PLACE, (found, file: string, line: string, column?: string) => {
      if (/^[/\\~]/.test(file)) return found;
      places.push(column === undefined ? [file, Number(line)] : [file, Number(line), Number(column)]);
      return `\x1b<${found}\x1b>`;
    })
    // biome-ignore lint/suspicious/noControlCharactersInRegex: see above
    .split(/\x1b(<|>|\[[\d;]*m)/);
  parts.forEach((part, i) => {
    if (i % 2 === 0) {
      if (part) target.push(runOf(part, style));
    } else if (part === '<') {
      const place = places.shift();
      const runs: Run[] = [];
      if (place) pieces.push({ place, runs });
      target = runs;
    } else if (part === '>') target = pieces;
    else style = restyle(style, part.slice(1, -1).split(';').map(Number));
  });
  return pieces;
}

/** As CSS has it: a background leaves the text no colour but the page's. */
function runOf(text: string, { codes, color, back }: Style): Run {
  const classes = codes.filter((code) => code < 5).map((code) => `s${code}`);
  const behind = codes.includes(7) ? color || 'CanvasText' : back;
  const shown = behind ? 'Canvas' : color;
  if (!classes.length && !shown && !behind) return text;
  return {
    text,
    ...(classes.length > 0 && { look: classes.join(' ') }),
    ...(shown && { color: shown }),
    ...(behind && { back: behind }),
  };
}

/** Select Graphic Rendition, ECMA-48 section 8.3.117. */
function restyle(style: Style, given: readonly number[]): Style {
  const left = [...given];
  let next = style;
  while (left.length > 0) {
    const code = left.shift() || 0;
    const digit = code % 10;
    const tens = (code - digit) / 10;
    const others = next.codes.filter((one) => one !== digit && (tens < 1 || digit > 2 || one !== 1)); // 22 is neither bold nor dim
    if (code === 0) next = PLAIN;
    else if (tens < 1) next = { ...next, codes: [...others, code] };
    else if (tens < 3) next = { ...next, codes: others };
    else {
      const color = digit === 8 ? extended(left) : named(digit);
      next = { ...next, [tens === 4 || tens > 9 ? 'back' : 'color']: color };
    }
  }
  return next;
}

/** Black is grey; white, and what resets a colour, are the usual text's. */
function named(digit: number): string {
  return digit > 6 ? '' : `oklch(${LIGHTNESS} ${digit && 0.14} ${HUES[digit]})`;
}

/** One of 256 colours (5;n), or any (2;r;g;b), at the lightness that can be read: takes its numbers from the codes. */
function extended(codes: number[]): string {
  const [mode, n = 0, g = 0, b = 0] = codes.splice(0, codes[0] === 5 ? 2 : 4);
  if (mode === 5 && n < 16) return named(n % 8);
  // A cube of 6 × 6 × 6, then shades of grey.
  const i = n > 231 ? 0 : n - 16;
  const rgb = mode === 5 ? [i / 36, (i / 6) % 6, i % 6].map((level) => Math.trunc(level) * 51) : [n, g, b];
  return `oklch(from rgb(${rgb}) ${LIGHTNESS} c h)`;
}
