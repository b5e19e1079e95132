import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { versionImports, versionOf } from '../src/imports.ts';

const sheets: [name: string, css: string, expected: string][] = [
  ['no import', 'a{}', 'a{}'],
  ['nothing', '', ''],
  ['a string', '@import "b.css";', '@import "b.css?live-sse=7";'],
  ['single quotes', "@import 'b.css';", "@import 'b.css?live-sse=7';"],
  ['url()', '@import url(b.css);', '@import url(b.css?live-sse=7);'],
  ['url() with spaces and quotes', '@import url( "b.css" );', '@import url( "b.css?live-sse=7" );'],
  ['capitals and no space', '@IMPORT"b.css";', '@IMPORT"b.css?live-sse=7";'],
  ['a condition', '@import "b.css" layer(x) screen;a{}', '@import "b.css?live-sse=7" layer(x) screen;a{}'],
  ['two', '@import "b.css";\n@import "c.css";', '@import "b.css?live-sse=7";\n@import "c.css?live-sse=7";'],
  ['a query', '@import "b.css?x=1";', '@import "b.css?x=1&live-sse=7";'],
  ['a fragment', '@import "b.css#f";', '@import "b.css?live-sse=7#f";'],
  ['an absolute path', '@import "/css/b.css";', '@import "/css/b.css?live-sse=7";'],
  ['the end without a semicolon', '@import "b.css"', '@import "b.css?live-sse=7"'],
  [
    'comments, @charset and @layer before it',
    '@charset "utf-8"; /* @import "x.css"; */ @layer a, b; @import "b.css";',
    '@charset "utf-8"; /* @import "x.css"; */ @layer a, b; @import "b.css?live-sse=7";',
  ],
  ['a comment inside', '@import/**/"b.css";', '@import/**/"b.css?live-sse=7";'],
  ['a BOM read as Latin-1', '\xef\xbb\xbf@import "b.css";', '\xef\xbb\xbf@import "b.css?live-sse=7";'],
  ['one in a comment', '/* @import "b.css"; */', '/* @import "b.css"; */'],
  ['one in an unclosed comment', '/* @import "b.css";', '/* @import "b.css";'],
  ['one after a rule', 'a{} @import "b.css";', 'a{} @import "b.css";'],
  ['one in a string', 'a{content:"@import \'b.css\';"}', 'a{content:"@import \'b.css\';"}'],
  ['one after a layer with a block', '@layer a{} @import "b.css";', '@layer a{} @import "b.css";'],
  ['another host', '@import "//x.example/b.css";', '@import "//x.example/b.css";'],
  ['another scheme', '@import url(https://x.example/b.css);', '@import url(https://x.example/b.css);'],
  ['data', '@import "data:text/css,a{}";', '@import "data:text/css,a{}";'],
  ['an escape', '@import "b\\2e css";', '@import "b\\2e css";'],
  ['an empty URL', '@import "";', '@import "";'],
];

for (const [name, css, expected] of sheets) {
  test(`versionImports() of ${name}`, () => assert.is(versionImports(css, '7'), expected));
}

test('versionImports() of a long sheet of nearly imports ends soon', () => {
  const start = performance.now();
  for (const part of ['@import ', '/* ', '@layer a ', '@import url(', '@import "b.css" ']) {
    versionImports(part.repeat(50_000), '7');
  }
  assert.ok(performance.now() - start < 2_000);
});

const queries: [query: string, expected: string | undefined][] = [
  ['?live-sse=mi7c2k-42', 'mi7c2k-42'],
  ['?a=1&live-sse=x.y_z&b=2', 'x.y_z'],
  ['?live-sse=', undefined],
  ['?live-sse=a"b', undefined],
  ['?live-sse=%22', undefined],
  ['?not-live-sse=1', undefined],
  ['', undefined],
];

for (const [query, expected] of queries) {
  test(`versionOf() ${query} is ${expected}`, () => assert.is(versionOf(query), expected));
}

test.run();
