import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createIgnore, loadGlobs, type Matcher, neverNotifies } from '../src/ignore.ts';

const names: [string, boolean][] = [
  ['index.html', false],
  ['.well-known', false],
  ['4914', false],
  ['404.html', false],
  ['sedate', false],
  ['sedentary', false],
  ['tmp', false],
  ['a.tmp.css', false],
  ['#', false],
  ['c#', false],
  ['node_modules.html', false],
  ['swap.swift', false],
  ['~', true],
  ['.git', true],
  ['.env', true],
  ['.DS_Store', true],
  ['.goutputstream-X4ZPO2', true],
  ['.#index.html', true],
  ['.index.html.swp', true],
  ['.index.html.kate-swp', true],
  ['node_modules', true],
  ['__pycache__', true],
  ['4913', true],
  ['index.html~', true],
  ['index.html.~1~', true],
  ['#index.html#', true],
  ['index.html.swp', true],
  ['index.html.swx', true],
  ['index.html.tmp', true],
  ['index.html.tmp-81-1700000000', true],
  ['index.html.tmp.81.1700000000', true],
  ['index.html.tmp8100', true],
  ['index.html___jb_tmp___', true],
  ['index.html___jb_old___', true],
  ['index.html.vsctmp', true],
  ['index.html.crswap', true],
  ['sedA1b2C3', true],
  ['~$letter.docx', true],
];

await loadGlobs(['*']);

for (const [name, expected] of names) {
  test(`neverNotifies(${name}) is ${expected}`, () => assert.is(neverNotifies(name), expected));
}

const global = /draft/g;
const cases: [string, readonly Matcher[], string, boolean][] = [
  ['nothing to ignore', [], '/site/a.css', false],
  ['the root itself', [/site/, () => true, '**'], '/site', false],
  ['a file outside of the root', ['*.css'], '/other/a.css', false],
  ['a tool’s folder on the way', [], '/site/node_modules/a/a.css', true],
  ['a hidden folder on the way', [], '/site/.vitepress/dist/a.css', true],
  ['.well-known', [], '/site/.well-known/a.txt', false],
  ['a name', ['drafts'], '/site/drafts', true],
  ['a name deeper', ['drafts'], '/site/a/drafts/b/c.html', true],
  ['a name that only starts alike', ['drafts'], '/site/drafts.html', false],
  ['a name with a slash behind', ['drafts/'], '/site/a/drafts/b.html', true],
  ['a path', ['a/drafts'], '/site/a/drafts/b.html', true],
  ['a path deeper', ['a/drafts'], '/site/x/a/drafts/b.html', false],
  ['a path with ./ before', ['./drafts'], '/site/drafts/b.html', true],
  ['./ starts at the root', ['./drafts'], '/site/a/drafts/b.html', false],
  ['/ starts at the root', ['/drafts'], '/site/a/drafts/b.html', false],
  ['/ starts at the root (hit)', ['/drafts'], '/site/drafts/b.html', true],
  ['an absolute path', ['/site/drafts'], '/site/drafts/b.html', true],
  ['everything in a folder', ['drafts/**'], '/site/drafts/a/b.html', true],
  ['an extension at any depth', ['*.log'], '/site/a/b/c.log', true],
  ['another extension', ['*.log'], '/site/a/b/c.logs', false],
  ['alternatives', ['*.{log,map}'], '/site/a.js.map', true],
  ['a glob in the middle', ['a/*/c.css'], '/site/a/b/c.css', true],
  ['a glob star does not cross a slash', ['a/*.css'], '/site/a/b/c.css', false],
  ['two stars do', ['a/**/*.css'], '/site/a/b/c.css', true],
  ['brackets of a real name', ['[draft]'], '/site/[draft]/a.html', true],
  ['an exclamation mark is a letter', ['!a.css'], '/site/b.css', false],
  ['no text', [''], '/site/a.css', false],
  ['a RegExp', [/\/drafts\//], '/site/drafts/a.html', true],
  ['a RegExp on a folder', [/drafts$/], '/site/drafts/a.html', true],
  ['a RegExp with a memory', [global], '/site/draft', true],
  ['a RegExp with a memory, again', [global], '/site/draft', true],
  ['a function', [(file) => file.endsWith('/drafts')], '/site/drafts/a.html', true],
  ['the second of two', ['*.log', '*.map'], '/site/a.map', true],
];

for (const [name, matchers, file, expected] of cases) {
  test(`createIgnore(): ${name}`, () => assert.is(createIgnore('/site', matchers)(file), expected));
}

const onWindows: [string, readonly Matcher[], string, boolean][] = [
  ['nothing to ignore', [], 'C:\\site\\a.css', false],
  ['a tool’s folder on the way', [], 'C:\\site\\node_modules\\a\\a.css', true],
  ['a file outside of the root', ['*.css'], 'D:\\site\\a.css', false],
  ['a name deeper', ['drafts'], 'C:\\site\\a\\drafts\\b.html', true],
  ['a path with slashes', ['a/drafts'], 'C:\\site\\a\\drafts\\b.html', true],
  ['a path with backslashes', ['a\\drafts'], 'C:\\site\\a\\drafts\\b.html', true],
  ['an absolute path', ['C:\\site\\drafts'], 'C:\\site\\drafts\\b.html', true],
  ['a glob', ['a/*/c.css'], 'C:\\site\\a\\b\\c.css', true],
  ['a RegExp', [/\\drafts\\/], 'C:\\site\\drafts\\a.html', true],
];

for (const [name, matchers, file, expected] of onWindows) {
  test(`createIgnore() on Windows: ${name}`, () =>
    assert.is(createIgnore('C:\\site', matchers, '\\')(file), expected));
}

test('createIgnore() counts names below the root only', () => {
  const ignores = createIgnore('/home/.vitepress/node_modules');
  assert.not(ignores('/home/.vitepress/node_modules/a.css'));
  assert.ok(ignores('/home/.vitepress/node_modules/node_modules/a.css'));
});

test('createIgnore() of the root of the disk', () => {
  assert.ok(createIgnore('/', ['*.log'])('/a/b.log'));
});

test('createIgnore() of something else is a TypeError', () => {
  const given: unknown = 5;
  assert.throws(() => createIgnore('/site', [given as Matcher]), /Cannot ignore 5/);
});

test.run();
