import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Failure, Painted, Piece } from '../src/events.ts';
import { paint, paintFailure } from '../src/paint.ts';

const E = '\x1b[';
const red = 'oklch(var(--l) 0.14 25)';
const green = 'oklch(var(--l) 0.14 145)';
const cyan = 'oklch(var(--l) 0.14 200)';

const outputs: [name: string, text: string, expected: Piece[]][] = [
  ['nothing', '', []],
  ['plain text', 'a\r\nb', ['a\r\nb']],
  [
    'colours, bold and their ends',
    `${E}31mred${E}1mbold${E}22mnot${E}39mplain${E}0;4mu${E}24mv`,
    [
      { text: 'red', color: red },
      { text: 'bold', look: 's1', color: red },
      { text: 'not', color: red },
      'plain',
      { text: 'u', look: 's4' },
      'v',
    ],
  ],
  [
    'bright, background, inverse',
    `${E}92mg${E}mk${E}41mbad${E}0m${E}7minv${E}27m.${E}44;7;36mx`,
    [
      { text: 'g', color: green },
      'k',
      { text: 'bad', color: 'Canvas', back: red },
      { text: 'inv', color: 'Canvas', back: 'CanvasText' },
      '.',
      { text: 'x', color: 'Canvas', back: cyan },
    ],
  ],
  [
    '256 and all colours, with what follows them',
    `${E}38;5;9;1ma${E}0;38;5;208mb${E}0;48;2;1;2;3;3mc${E}0;38;5;240md`,
    [
      { text: 'a', look: 's1', color: red },
      { text: 'b', color: 'oklch(from rgb(255,102,0) var(--l) c h)' },
      { text: 'c', look: 's3', color: 'Canvas', back: 'oklch(from rgb(1,2,3) var(--l) c h)' },
      { text: 'd', color: 'oklch(from rgb(0,0,0) var(--l) c h)' },
    ],
  ],
  [
    'what is no colour',
    `10 %\r90 %\rdone${E}2K${E}1;1H\x1b]0;title\x07\x1b]8;;http://x/\x1b\\link\x1b]8;;\x1b\\\x1bc.\r`,
    ['donelink.\r'],
  ],
  [
    'colours that are cut off, or no numbers',
    `${E}38m${E}38;5m${E}48;2;1ma${E};;mb`,
    [{ text: 'a', color: 'Canvas', back: 'oklch(from rgb(1,0,0) var(--l) c h)' }, 'b'],
  ],
  ['markup', `${E}1m<b>&amp;`, [{ text: '<b>&amp;', look: 's1' }]],
  [
    'what is no place of the own files',
    'http://localhost.test:80/ https://a.example:443 /etc/x.conf:1 ~/x.js:2 C:\\x\\y.js:3 12:30:45 v1.2.3:4',
    [
      'http://localhost.test:80/ https://a.example:443 /etc/x.conf:1 ~/x.js:2 C:\\x\\y.js:3 12:30:45 v1.2.3:4',
    ],
  ],
  [
    'a place in colours',
    `in ${E}96msrc/app.ts${E}0m:${E}93m3${E}0m:${E}92m7${E}0m - error`,
    [
      'in ',
      {
        place: ['src/app.ts', 3, 7],
        runs: [
          { text: 'src/app.ts', color: cyan },
          ':',
          { text: '3', color: 'oklch(var(--l) 0.14 85)' },
          ':',
          { text: '7', color: green },
        ],
      },
      ' - error',
    ],
  ],
];

for (const [name, text, expected] of outputs) {
  test(`paint() of ${name}`, () => assert.equal(paint(text), expected));
}

const places: [string, string, unknown[]][] = [
  ['esbuild, Rollup, gcc', 'src/app.ts:12:5: error', ['src/app.ts', 12, 5]],
  ['a line alone', 'at src/app.ts:12', ['src/app.ts', 12]],
  ['tsc', 'src/app.ts(3,7): error TS2322', ['src/app.ts', 3, 7]],
  ['Sass', '  css/main.scss 3:7  root stylesheet', ['css/main.scss', 3, 7]],
  ['a stack', 'at render (build/pages.mjs:1:2)', ['build/pages.mjs', 1, 2]],
  ['Python', 'File "tools/a.py", line 12, in main', ['tools/a.py', 12]],
  ['PHP', 'in views/a.php on line 9', ['views/a.php', 9]],
  ['other folders and scripts', '../lib/é-[id].vue:1:2', ['../lib/é-[id].vue', 1, 2]],
  ['Windows', 'src\\app.ts:1:2', ['src\\app.ts', 1, 2]],
];

for (const [name, text, expected] of places) {
  test(`paint() finds a place as it is written by ${name}`, () => {
    const found = paint(text).flatMap((piece) =>
      typeof piece !== 'string' && 'place' in piece ? [piece.place] : [],
    );
    assert.equal(found, [expected]);
  });
}

const failures: [name: string, failure: Failure, expected: Painted][] = [
  ['plain texts', { message: 'Broken', file: 'a.js', line: 3, output: 'x', stack: 'y', frame: 'z' }, {}],
  [
    'a message with a place',
    { message: 'a.js:3 is bad' },
    {
      message: [{ place: ['a.js', 3], runs: ['a.js:3'] }, ' is bad'],
    },
  ],
  [
    'a frame',
    { message: 'Bad', frame: '1 | a\n  | ^\n2 | b' },
    {
      frame: [{ text: '1 | a\n  | ^', color: red }, '\n2 | b'],
    },
  ],
  [
    'an output and a stack',
    { message: 'Bad', output: `${E}1ma`, stack: 'at a.js:1:2' },
    {
      output: [{ text: 'a', look: 's1' }],
      stack: ['at ', { place: ['a.js', 1, 2], runs: ['a.js:1:2'] }],
    },
  ],
];

for (const [name, failure, expected] of failures) {
  test(`paintFailure() of ${name}`, () => assert.equal(paintFailure(failure), expected));
}

test('paint() of a long output takes no time', () => {
  const begin = performance.now();
  paint(`${'a.'.repeat(4096)}\n${`${E}31ma${E}0m`.repeat(800)}\n`);
  assert.ok(performance.now() - begin < 1000);
});

test.run();
