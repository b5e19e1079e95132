import { homedir } from 'node:os';
import { build } from 'esbuild';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Failure } from '../src/events.ts';
import { toFailure, withoutFolders } from '../src/failure.ts';
import { folder } from './harness.ts';

const cwd = '/srv/site';

/** An error with the properties that a tool gives it. */
const error = (message: string, properties: object) =>
  Object.assign(new Error(message), { stack: '' }, properties);

const shapes: [string, unknown, Failure][] = [
  ['a text', 'No such theme', { message: 'No such theme' }],
  ['a coloured text', '\x1b[31mNo such theme\x1b[39m\n', { message: 'No such theme' }],
  ['nothing', undefined, { message: 'Unknown error' }],
  ['an empty text', '', { message: 'Unknown error' }],
  ['an object without a prototype', Object.create(null), { message: 'Unknown error' }],
  ['an empty list of errors', error('Nothing built', { errors: [] }), { message: 'Nothing built' }],
  ['an error without a message', error('', { name: 'AbortError' }), { message: 'AbortError' }],
  [
    'a Failure',
    {
      message: 'Bad',
      file: 'a.ts',
      line: 3,
      column: 7,
      frame: '> 3 | x',
      output: '\x1b[1mx',
      command: 'tsc',
    },
    {
      message: 'Bad',
      file: 'a.ts',
      line: 3,
      column: 7,
      frame: '> 3 | x',
      output: '\x1b[1mx',
      command: 'tsc',
    },
  ],
  [
    'Rollup',
    error('src/main.js (2:8): Expression expected (Note that you need plugins)', {
      code: 'PARSE_ERROR',
      id: '/srv/site/src/main.js',
      loc: { file: '/srv/site/src/main.js', line: 2, column: 8 },
      frame: '1: let a = 1;\n2: let b = ;\n           ^',
    }),
    {
      message: 'Expression expected (Note that you need plugins)',
      file: 'src/main.js',
      line: 2,
      column: 9,
      frame: '1: let a = 1;\n2: let b = ;\n           ^',
    },
  ],
  [
    'a Vite plugin',
    error('[postcss] Unclosed block', {
      id: '/srv/site/src/a.vue?vue&type=style&index=0',
      loc: { line: 4, column: 0 },
      frame: '\x1b[33m4 | a {\x1b[39m',
    }),
    { message: '[postcss] Unclosed block', file: 'src/a.vue', line: 4, column: 1, frame: '4 | a {' },
  ],
  [
    'Rolldown',
    error('Build failed with 2 errors', {
      errors: [
        { message: 'Unexpected token', id: '/srv/site/a.js', loc: { line: 1, column: 4 } },
        { message: 'Unresolved import', id: '\0/srv/site/b.js', loc: { line: 9, column: 0 } },
      ],
    }),
    {
      message: 'Unexpected token',
      file: 'a.js',
      line: 1,
      column: 5,
      output: 'b.js:9:1: Unresolved import',
    },
  ],
  [
    'PostCSS',
    error('/srv/site/css/a.css:3:5: Unknown word', {
      name: 'CssSyntaxError',
      reason: 'Unknown word',
      file: '/srv/site/css/a.css',
      line: 3,
      column: 5,
      showSourceCode: (colours: boolean) => (colours ? 'no' : '> 3 |     nonsense\n    |     ^'),
    }),
    {
      message: 'Unknown word',
      file: 'css/a.css',
      line: 3,
      column: 5,
      frame: '> 3 |     nonsense\n    |     ^',
    },
  ],
  [
    'Sass',
    error('expected "}".\n  ╷\n3 │ …', {
      sassMessage: 'expected "}".',
      span: {
        start: { line: 2, column: 4, offset: 30 },
        context: '\ta {\n',
        url: new URL('file:///srv/site/css/a%20b.scss'),
      },
    }),
    {
      message: 'expected "}".',
      file: 'css/a b.scss',
      line: 3,
      column: 5,
      frame: '> 3 | \ta {\n    | \t   ^',
    },
  ],
  [
    'Svelte',
    error('Unexpected token', { filename: '/srv/site/App.svelte', start: { line: 5, column: 2 } }),
    { message: 'Unexpected token', file: 'App.svelte', line: 5, column: 3 },
  ],
  [
    'Babel',
    error('/srv/site/a.js: Unexpected token (2:8)\n\n  1 | let a;\n> 2 | let b = ;\n    |         ^\n', {
      code: 'BABEL_PARSE_ERROR',
      loc: { line: 2, column: 8, index: 15 },
    }),
    {
      message: 'a.js: Unexpected token (2:8)',
      line: 2,
      column: 9,
      frame: '  1 | let a;\n> 2 | let b = ;\n    |         ^',
    },
  ],
  [
    'a message of several lines, with a frame',
    { message: 'Cannot find "a"\nDid you mean "b"?\n', frame: '> 1 | a' },
    { message: 'Cannot find "a"', frame: 'Did you mean "b"?\n\n> 1 | a' },
  ],
  [
    'a file outside the working folder',
    error('Bad', { file: '/srv/shared/a.css', line: 1 }),
    { message: 'Bad', file: '../shared/a.css', line: 1 },
  ],
  [
    'a message with a path',
    error("ENOENT: no such file or directory, open '/srv/site/a.md'", { code: 'ENOENT' }),
    { message: `ENOENT: no such file or directory, open 'a.md'` },
  ],
];

for (const [name, thrown, expected] of shapes) {
  test(`toFailure() of ${name}`, () => assert.equal(toFailure(thrown, cwd), expected));
}

test('toFailure() of a thrown error: the place is the first one of the own code', () => {
  const thrown = new TypeError('a is not a function');
  thrown.stack = [
    'TypeError: a is not a function',
    '    at Object.parse (/srv/site/node_modules/marked/index.js:1:2)',
    '    at JSON.parse (<anonymous>)',
    '    at render (file:///srv/site/build/page%20s.mjs:12:5)',
    '    at async /srv/site/build.mjs:40:3',
    '    at node:internal/main:1:1',
  ].join('\n');
  assert.equal(toFailure(thrown, cwd), {
    message: 'a is not a function',
    file: 'build/page s.mjs',
    line: 12,
    column: 5,
    stack: 'at render (build/page%20s.mjs:12:5)\nat async build.mjs:40:3',
  });
});

test('toFailure() of an error thrown here', () => {
  const { message, file, line = 0 } = toFailure(new Error('here'));
  assert.equal({ message, file }, { message: 'here', file: 'test/failure.test.ts' });
  assert.ok(line > 100);
});

test('toFailure() of what esbuild throws', async () => {
  using dir = folder({ 'src/a.js': 'let z;\nlet a = ;\n', 'src/b.js': '\tlet é = "x" +* 3;\n' });
  const entryPoints = ['src/a.js', 'src/b.js'];
  const building = build({
    absWorkingDir: dir.path,
    entryPoints,
    write: false,
    outdir: 'o',
    logLevel: 'silent',
  });
  const thrown: unknown = await building.catch((reason) => reason);
  assert.equal(toFailure(thrown, dir.path), {
    message: 'Unexpected ";"',
    file: 'src/a.js',
    line: 2,
    column: 9,
    frame: '> 2 | let a = ;\n    |         ^',
    output: 'src/b.js:1:15: Unexpected "*"',
  });
});

const texts: [string, string, string][] = [
  ['a path', 'in /srv/site/src/a.ts:3', 'in src/a.ts:3'],
  ['the folder itself', 'cd /srv/site', 'cd .'],
  ['a URL', 'at file:///srv/site/a.mjs:1:2', 'at a.mjs:1:2'],
  ['a colour before', '\x1b[31m/srv/site/a.ts\x1b[0m', '\x1b[31ma.ts\x1b[0m'],
  ['quotes and lines', '"/srv/site/a"\n/srv/site/b', '"a"\nb'],
  ['a longer name', '/srv/site-2/a /srv/site.old', '/srv/site-2/a /srv/site.old'],
  ['a path that ends alike', '/srv/srv/site/a ../srv/site/a', '/srv/srv/site/a ../srv/site/a'],
  ['home', `${homedir()}/lib/a.js and ${homedir()}`, '~/lib/a.js and ~'],
];

for (const [name, given, expected] of texts) {
  test(`withoutFolders() of ${name}`, () => assert.is(withoutFolders(given, cwd), expected));
}

const onWindows: [string, string, string][] = [
  ['backslashes', 'in C:\\me\\site\\src\\a.ts:3', 'in src\\a.ts:3'],
  ['slashes', 'in C:/me/site/src/a.ts:3', 'in src/a.ts:3'],
  ['a drive in lower case', 'in c:\\me\\site\\a.ts', 'in a.ts'],
  ['a URL', 'at file:///C:/me/site/a.mjs:1:2', 'at a.mjs:1:2'],
  ['the folder itself', 'cd C:\\me\\site\r\n', 'cd .\r\n'],
  ['another drive', 'D:\\me\\site\\a.ts', 'D:\\me\\site\\a.ts'],
  ['a longer name', 'C:\\me\\site-2\\a', 'C:\\me\\site-2\\a'],
];

for (const [name, given, expected] of onWindows) {
  test(`withoutFolders() on Windows of ${name}`, () =>
    assert.is(withoutFolders(given, 'C:\\me\\site'), expected));
}

test('withoutFolders() of a folder whose name holds special characters', () => {
  assert.is(withoutFolders('/a (b)+[c]$/x.ts', '/a (b)+[c]$'), 'x.ts');
});

test('withoutFolders() when the folder is the root of the disk', () => {
  assert.is(withoutFolders('/a/b', '/'), '/a/b');
});

test.run();
