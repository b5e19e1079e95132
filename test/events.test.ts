import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Change, classify, type Found, merge, type PageEvent, toPath } from '../src/events.ts';

const change = (type: Change['type'], path: string): Change => ({ type, file: `/site${path}`, path });

const batches: [string, readonly Change[], PageEvent | undefined][] = [
  ['nothing is nothing', [], undefined],
  ['a saved stylesheet is css', [change('change', '/a.css')], { type: 'css', paths: ['/a.css'] }],
  ['a new stylesheet is css', [change('add', '/a.css')], { type: 'css', paths: ['/a.css'] }],
  ['an upper-case stylesheet is css', [change('change', '/A.CSS')], { type: 'css', paths: ['/A.CSS'] }],
  [
    'a deleted stylesheet is reload',
    [change('unlink', '/a.css')],
    { type: 'reload', paths: ['/a.css'], gone: ['/a.css'] },
  ],
  [
    'two stylesheets are one css',
    [change('change', '/a.css'), change('change', '/b.css')],
    { type: 'css', paths: ['/a.css', '/b.css'] },
  ],
  [
    'a stylesheet and a page are one reload',
    [change('change', '/a.css'), change('change', '/b.html')],
    { type: 'reload', paths: ['/a.css', '/b.html'] },
  ],
  [
    'a stylesheet and its source map are css',
    [change('add', '/a.css.map'), change('change', '/a.css')],
    { type: 'css', paths: ['/a.css'] },
  ],
  [
    'a source map alone is one reload',
    [change('change', '/a.js.map')],
    { type: 'reload', paths: ['/a.js.map'] },
  ],
  [
    'one file twice is named once',
    [change('unlink', '/a.js'), change('add', '/a.js')],
    { type: 'reload', paths: ['/a.js'] },
  ],
  [
    'a file without a URL concerns every page',
    [change('change', '/a.css'), { type: 'change', file: '/views/a.pug' }],
    { type: 'reload', paths: [] },
  ],
  [
    'templates without a URL are templates',
    [
      { type: 'change', file: '/views/a.pug' },
      { type: 'add', file: '/views/b.blade.php' },
      { type: 'unlink', file: '/views/c.HTML' },
    ],
    { type: 'reload', paths: [], templates: true },
  ],
  ['a page with a URL is no template', [change('change', '/a.html')], { type: 'reload', paths: ['/a.html'] }],
  [
    'a template and what a page may load concern every page',
    [
      { type: 'change', file: '/views/a.pug' },
      { type: 'change', file: '/views/a.js' },
    ],
    { type: 'reload', paths: [] },
  ],
];

for (const [name, changes, expected] of batches) {
  test(`classify(): ${name}`, () => assert.equal(classify(changes), expected));
}

const files: [string, string, string, string | undefined][] = [
  ['a plain name', '/site', '/site/css/a.css', '/css/a.css'],
  ['a space', '/site', '/site/a b.css', '/a%20b.css'],
  ['a percent sign', '/site', '/site/100%.css', '/100%25.css'],
  ['a hash and a question mark', '/site', '/site/a#b?.css', '/a%23b%3F.css'],
  ['what browsers leave alone', '/site', "/site/$&+,:;=@[]|!'()*.css", "/$&+,:;=@[]|!'()*.css"],
  ['line feed, quote and NUL', '/site', '/site/a\n"\0.css', '/a%0A%22%00.css'],
  ['a backslash', '/site', '/site/a\\b.css', '/a%5Cb.css'],
  ['other scripts', '/site', '/site/é这.css', '/%C3%A9%E8%BF%99.css'],
  ['half a surrogate pair', '/site', '/site/\uD800.css', '/%EF%BF%BD.css'],
  ['a sibling whose name starts alike', '/site', '/site-2/a.css', undefined],
  ['the folder itself', '/site', '/site', undefined],
  ['the root of the disk', '/', '/a.css', '/a.css'],
];

for (const [name, root, file, expected] of files) {
  test(`toPath() of ${name}`, () => assert.is(toPath(root, file), expected));
}

const onWindows: [string, string, string, string | undefined][] = [
  ['a plain name', 'C:\\site', 'C:\\site\\css\\a.css', '/css/a.css'],
  ['a slash in a name, which is none', 'C:\\site', 'C:\\site\\a b#c.css', '/a%20b%23c.css'],
  ['the root of a drive', 'C:\\', 'C:\\a.css', '/a.css'],
  ['a drive in lower case', 'c:\\site', 'C:\\site\\A.css', '/A.css'],
  ['a folder in other letters', 'C:\\Site', 'C:\\site\\Css\\a.css', '/Css/a.css'],
  ['another drive', 'C:\\site', 'D:\\site\\a.css', undefined],
  ['a sibling whose name starts alike', 'C:\\site', 'C:\\site-2\\a.css', undefined],
  ['a network share', '\\\\nas\\www', '\\\\nas\\www\\a\\b.css', '/a/b.css'],
];

for (const [name, root, file, expected] of onWindows) {
  test(`toPath() on Windows of ${name}`, () => assert.is(toPath(root, file, '\\'), expected));
}

test('toPath() elsewhere tells folders apart by letter case', () => {
  assert.is(toPath('/Site', '/site/a.css'), undefined);
});

const file = '/a';
const gone: Found = { type: 'unlink', file, before: 'A' };
const came: Found = { type: 'add', file, after: 'B' };
const written: Found = { type: 'change', file, after: 'C' };

for (const [name, all, expected] of [
  ['written twice', [written, { ...written, after: 'D' }], { ...written, after: 'D' }],
  ['new, then written', [came, written], { type: 'add', file, after: 'C' }],
  ['new, then gone', [came, { type: 'unlink', file, before: 'B' }], undefined],
  ['gone, then there', [gone, came], { type: 'change', file, before: 'A', after: 'B' }],
  ['gone, there, written', [gone, came, written], { type: 'change', file, after: 'C' }],
  ['gone, there, gone', [gone, came, { type: 'unlink', file, before: 'B' }], { type: 'unlink', file }],
  ['gone, there as it was, gone', [gone, { ...came, after: 'A' }, gone], gone],
  ['gone, there, as it was', [gone, came, { ...written, after: 'A' }], { type: 'change', file, after: 'A' }],
  ['written, then gone', [written, { type: 'unlink', file, before: 'C' }], { type: 'unlink', file }],
] satisfies [string, Found[], Found | undefined][]) {
  test(`merge() of a file that is ${name}`, () => {
    const merged = all.reduce<Found | undefined>(merge, undefined);
    assert.equal(merged && JSON.parse(JSON.stringify(merged)), expected);
  });
}

test.run();
