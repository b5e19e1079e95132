import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  createResolver,
  isHidden,
  isOddOnWindows,
  parseTarget,
  type ResolverOptions,
} from '../src/resolve.ts';
import { folder } from './harness.ts';

const targets: [raw: string | undefined, segments: string[] | undefined, slash?: boolean][] = [
  ['/', [], true],
  ['/a/b.css', ['a', 'b.css']],
  ['/a/', ['a'], true],
  ['/a?b/../c', ['a']],
  ['/a#b/../c', ['a']],
  ['/a?x#y?z', ['a']],
  ['/a%20b%25%23%3F+.txt', ['a b%#?+.txt']],
  ['/caf%C3%A9', ['café']],
  ['/caf\xc3\xa9', ['café']], // bytes as curl sends them and Node reads them
  ['/%252e%252e/a', ['%2e%2e', 'a']],
  ['/__proto__/constructor', ['__proto__', 'constructor']],
  [undefined, undefined],
  ['', undefined],
  ['*', undefined],
  ['a', undefined],
  ['http://localhost/a', undefined],
  ['//evil.example/a', undefined],
  ['/a//b', undefined],
  ['//', undefined],
  ['/a/../b', undefined],
  ['/..', undefined],
  ['/./a', undefined],
  ['/%2e%2e/a', undefined],
  ['/.%2E/a', undefined],
  ['/%2e/a', undefined],
  ['/a%2fb', undefined],
  ['/..%2fa', undefined],
  ['/a%5cb', undefined],
  ['/a\\b', undefined],
  ['/\\evil.example', undefined],
  ['/a%00.html', undefined],
  ['/a%0d%0ab', undefined],
  ['/a%7f', undefined],
  ['/a%c2%9b', undefined],
  ['/%', undefined],
  ['/%zz', undefined],
  ['/%c0%ae%c0%ae/a', undefined],
  ['/%ff', undefined],
  ['/\xff', undefined],
  ['/%ed%a0%80', undefined],
];

for (const [raw, segments, slash = false] of targets) {
  test(`parseTarget() ${JSON.stringify(raw)}`, () => {
    const target = parseTarget(raw);
    assert.equal(target?.segments, segments);
    if (segments) assert.is(target?.slash, slash);
  });
}

const hidden: [path: string, expected: boolean][] = [
  ['.env', true],
  ['a/.git/config', true],
  ['.well-known/security.txt', false],
  ['.well-known/.env', true],
  ['a/.well-known/x', true],
  ['.well-known2', true],
  ['\u200c.env', true],
  ['.\u200cenv', true],
  ['tls/server.key', true],
  ['server.PEM', true],
  ['a.b', false],
  ['keyboard.html', false],
];
for (const [path, expected] of hidden) {
  test(`isHidden() ${JSON.stringify(path)}`, () => assert.is(isHidden(path.split('/')), expected));
}

/** What a raw target leads to, in a word or two. */
function lookUp(root: string, raw: string, options?: ResolverOptions): string {
  const target = parseTarget(raw);
  if (!target) return 'bad';
  const found = createResolver(root, options).find(target);
  if (found.type === 'file') return found.path;
  return found.type === 'redirect' ? `> ${found.location}` : found.type;
}

const site = {
  'index.html': '',
  'about.html': '',
  'docs/index.html': '',
  'docs/guide.html': '',
  'both.html': '',
  'both/index.html': '',
  'plain/a.txt': '',
  'old/index.htm': '',
  'name.html.html': '',
  '.env': '',
  '.well-known/security.txt': '',
  'a b%#?+.txt': '',
  '%2e%2e': '',
  'x.key': '',
};

const lookUps: [raw: string, expected: string][] = [
  ['/', '/index.html'],
  ['/index', '/index.html'],
  ['/about', '/about.html'],
  ['/about.html', '/about.html'],
  ['/about/', '> /about'],
  ['/about/?a=1', '> /about?a=1'],
  ['/about.html/', 'missing'],
  ['/docs', '> /docs/'],
  ['/docs?a=1&b=%20', '> /docs/?a=1&b=%20'],
  ['/docs?a=\xe9', '> /docs/'],
  ['/docs/', '/docs/index.html'],
  ['/docs/guide', '/docs/guide.html'],
  ['/both', '/both.html'],
  ['/both/', '/both/index.html'],
  ['/plain', '> /plain/'],
  ['/plain/', 'folder'],
  ['/plain/a.txt/b', 'missing'],
  ['/old/', '/old/index.htm'],
  ['/name.html', '/name.html.html'],
  ['/.env', 'missing'],
  ['/.env/', 'missing'],
  ['/.well-known/security.txt', '/.well-known/security.txt'],
  ['/a%20b%25%23%3F+.txt', '/a%20b%25%23%3F+.txt'],
  ['/%252e%252e', '/%252e%252e'],
  ['/x.key', 'missing'],
  [`/${'x'.repeat(300)}`, 'missing'],
  [`/${'x/'.repeat(3000)}`, 'missing'],
  ['/__proto__', 'missing'],
];

for (const [raw, expected] of lookUps) {
  test(`find() ${JSON.stringify(raw.slice(0, 40))}`, () => {
    using root = folder(site);
    assert.is(lookUp(root.path, raw), expected);
  });
}

const odd: [name: string, expected: boolean][] = [
  ['index.html', false],
  ['console.js', false],
  ['com.css', false],
  ['a.b.css', false],
  ['a~b.css', false],
  ['CON', true],
  ['con.html', true],
  ['aux.css', true],
  ['LPT1', true],
  ['com9.txt', true],
  ['a.css.', true],
  ['a.css ', true],
  ['a.css::$DATA', true],
  ['C:', true],
  ['GIT~1', true],
  ['a?.css', true],
  ['a*.css', true],
  ['a|b', true],
];

for (const [name, expected] of odd) {
  test(`isOddOnWindows(${name}) is ${expected}`, () => assert.is(isOddOnWindows(name), expected));
}

test('find() gives the file as the root was named, with what was found at the end of links', () => {
  using root = folder({ 'real/a.css': 'a{}' });
  symlinkSync('real', root.file('link'));
  const found = createResolver(root.file('link')).find({ segments: ['a.css'], slash: false, query: '' });
  assert.is(found.type === 'file' && found.file, root.file('link/a.css'));
  assert.is(found.type === 'file' && found.stats.size, 3n);
});

test('find() never looks into a sibling whose name starts with the name of the root', () => {
  using parent = folder({ 'site/a.txt': '', 'site-secret/b.txt': '' });
  symlinkSync('../site-secret/b.txt', parent.file('site/b.txt'));
  assert.is(lookUp(parent.file('site'), '/b.txt'), 'missing');
  assert.is(lookUp(parent.file('site'), '/../site-secret/b.txt'), 'bad');
});

test('find() follows links inside the root, and those outside only if told', () => {
  using parent = folder({ 'root/in/a.txt': '', 'out/a.txt': '' });
  const root = parent.file('root');
  const links: [string, string][] = [
    ['in/a.txt', 'file'],
    ['in', 'dir'],
    ['../out/a.txt', 'far'],
    ['../out', 'fardir'],
    ['far', 'chain'],
    ['nowhere', 'dangling'],
    ['loop', 'loop'],
  ];
  for (const [to, name] of links) symlinkSync(to, join(root, name));
  const lines: string[] = [];
  const onNotice = (line: string) => lines.push(line);
  const outside = ['/far', '/fardir/a.txt', '/chain', '/fardir/'];
  for (const path of ['/file', '/dir/a.txt']) assert.is(lookUp(root, path), path);
  for (const path of outside) assert.is(lookUp(root, path, { onNotice }), 'missing');
  assert.is(lines.filter((line) => line.includes('--follow-symlinks')).length, outside.length);
  for (const path of ['/dangling', '/loop', '/loop/x'])
    assert.is(lookUp(root, path, { onNotice }), 'missing');
  const told = outside.map((path) => lookUp(root, path, { followSymlinks: true }));
  assert.equal(told, ['/far', '/fardir/a.txt', '/chain', 'folder']);
});

test('find() in a root that is a link led elsewhere: what is there now, and nothing of where it led before', () => {
  using parent = folder({ '0/a.txt': '', '1/b.txt': '' });
  symlinkSync('0', parent.file('root'));
  symlinkSync('../0/a.txt', parent.file('1/a.txt'));
  const resolver = createResolver(parent.file('root'));
  const type = (name: string) => resolver.find({ segments: [name], slash: false, query: '' }).type;
  assert.is(type('a.txt'), 'file');
  symlinkSync('1', parent.file('next'));
  renameSync(parent.file('next'), parent.file('root'));
  assert.is(type('b.txt'), 'file');
  assert.is(type('a.txt'), 'missing');
});

test('find() looks at a link each time: one that is turned outside later is refused', () => {
  using parent = folder({ 'root/a.txt': '', 'out.txt': '' });
  const resolver = createResolver(parent.file('root'));
  const target = { segments: ['link'], slash: false, query: '' };
  symlinkSync('a.txt', parent.file('root/link'));
  assert.is(resolver.find(target).type, 'file');
  symlinkSync('../out.txt', parent.file('new'));
  renameSync(parent.file('new'), parent.file('root/link'));
  symlinkSync('../../out.txt', parent.file('root/other'));
  renameSync(parent.file('root/other'), parent.file('root/link'));
  assert.is(resolver.find(target).type, 'missing');
});

test('find() links from the root into a mount are inside', () => {
  using parent = folder({ 'root/x': '', 'dist/a.js': '' });
  symlinkSync('../dist/a.js', parent.file('root/a.js'));
  const mounts = { '/assets': parent.file('dist') };
  assert.is(lookUp(parent.file('root'), '/a.js', { mounts }), '/a.js');
});

test('find() of mounts: the longest prefix first, the root last', () => {
  using parent = folder({
    'root/index.html': '',
    'root/assets/only-root.txt': '',
    'root/assets/index.html': '',
    'one/a.txt': '',
    'two/a.txt': '',
    'two/sub/b.txt': '',
  });
  const mounts = {
    '/assets': parent.file('one'),
    '/assets/deep/': parent.file('two'),
    '/gone': parent.file('gone'),
  };
  const root = createResolver(parent.file('root'), { mounts });
  const fileOf = (raw: string) => {
    const target = parseTarget(raw);
    const found = target && root.find(target);
    return found?.type === 'file' ? found.file.slice(parent.path.length + 1) : found?.type;
  };
  assert.is(fileOf('/assets/a.txt'), 'one/a.txt');
  assert.is(fileOf('/assets/deep/a.txt'), 'two/a.txt');
  assert.is(fileOf('/assets/deep/sub/b.txt'), 'two/sub/b.txt');
  assert.is(fileOf('/assets/only-root.txt'), 'root/assets/only-root.txt');
  assert.is(fileOf('/assets/'), 'root/assets/index.html');
  assert.is(fileOf('/assets'), 'redirect');
  assert.is(fileOf('/assetsx/a.txt'), 'missing');
  assert.is(fileOf('/gone/a.txt'), 'missing');
  parent.write('gone/a.txt', '');
  assert.is(fileOf('/gone/a.txt'), 'gone/a.txt');
});

test('find() never gives a secret file, by no name', () => {
  using root = folder({ 'tls/cert': '', 'a.txt': '' });
  symlinkSync('tls/cert', root.file('link'));
  execFileSync('ln', [root.file('tls/cert'), root.file('hard')]);
  const secret = [root.file('tls/cert'), root.file('not-there')];
  for (const path of ['/tls/cert', '/link', '/hard'])
    assert.is(lookUp(root.path, path, { secret }), 'missing');
  assert.is(lookUp(root.path, '/a.txt', { secret }), '/a.txt');
});

test('find() of a name in the other normal form finds it as the disk spells it', () => {
  using root = folder({ 'nf\u00fc/caf\u00e9.html': '', 'nfd/cafe\u0301.html': '' });
  assert.is(lookUp(root.path, '/nfu%CC%88/cafe%CC%81.html'), '/nf%C3%BC/caf%C3%A9.html');
  assert.is(lookUp(root.path, '/nfu%CC%88/cafe%CC%81'), '/nf%C3%BC/caf%C3%A9.html');
  assert.is(lookUp(root.path, '/nfd/caf%C3%A9.html'), '/nfd/cafe%CC%81.html');
  assert.is(lookUp(root.path, '/nfd/caf%C3%A8.html'), 'missing');
});

test('find() serves regular files only', () => {
  using root = folder({ 'a.txt': '' });
  execFileSync('mkfifo', [root.file('fifo')]);
  symlinkSync('fifo', root.file('link'));
  symlinkSync('/dev/null', root.file('null'));
  for (const path of ['/fifo', '/link']) assert.is(lookUp(root.path, path), 'missing');
  assert.is(lookUp(root.path, '/null', { followSymlinks: true }), 'missing');
});

test('find() of a hidden file says so in the terminal, and only if it is there', () => {
  using root = folder({ '.env': '' });
  const lines: string[] = [];
  const onNotice = (line: string) => lines.push(line);
  for (const path of ['/.env', '/.nothing']) assert.is(lookUp(root.path, path, { onNotice }), 'missing');
  assert.is(lines.length, 1);
  assert.match(lines[0] ?? '', '/.env');
});

test('a root inside a hidden folder works', () => {
  using parent = folder({ '.vitepress/dist/a.txt': '' });
  assert.is(lookUp(parent.file('.vitepress/dist'), '/a.txt'), '/a.txt');
});

test('find() of a folder lists folders first, by number and letter, without what is not served', () => {
  using parent = folder({
    'out.txt': '',
    'root/b10.txt': 'abc',
    'root/b9.txt': '',
    'root/Z/x': '',
    'root/.git/config': '',
    'root/.well-known/x': '',
    'root/x.pem': '',
    'root/secret': '',
  });
  symlinkSync('../out.txt', parent.file('root/link'));
  symlinkSync('nowhere', parent.file('root/dangling'));
  execFileSync('mkfifo', [parent.file('root/fifo')]);
  const resolver = createResolver(parent.file('root'), { secret: [parent.file('root/secret')] });
  const found = resolver.find({ segments: [], slash: true, query: '' });
  const entries = found.type === 'folder' ? found.entries : [];
  assert.equal(
    entries.map(({ name, folder, size }) => [name, folder, folder || size]),
    [
      ['Z', true, true],
      ['b9.txt', false, 0],
      ['b10.txt', false, 3],
    ],
  );
});

function near(root: string, raw: string, options?: ResolverOptions): string[] {
  const target = parseTarget(raw);
  return target ? createResolver(root, options).near(target) : [];
}

test('createResolver() of a whole disk is refused', () => {
  assert.throws(() => createResolver('/'), /Cannot serve "\/"/);
});

test('near() suggests siblings, never hidden ones', () => {
  using root = folder({ 'docs/guide.html': '', 'docs/.guide.html': '', '.guid': '', 'guid.pem': '' });
  assert.equal(near(root.path, '/docs/giude.html'), ['/docs/guide.html']);
  assert.equal(near(root.path, '/doc/guide.html'), ['/docs/']);
  assert.equal(near(root.path, '/guid.html'), []);
  assert.equal(near(root.path, '/.guid'), []);
});

test('near() of the wrong letter case names the right one', () => {
  using root = folder({ 'img/Logo.PNG': '' });
  const lines: string[] = [];
  assert.equal(near(root.path, '/img/logo.png', { onNotice: (line) => lines.push(line) }), ['/img/Logo.PNG']);
  assert.is(lines.length, 1);
  assert.match(lines[0] ?? '', /"logo\.png".*"Logo\.PNG"/);
});

/** Milliseconds of processor time: how busy the machine is doesn't matter. */
function costOf(work: () => void): number {
  const before = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

test('near() of a huge folder is quick', () => {
  using root = folder();
  mkdirSync(root.file('many'));
  for (let i = 0; i < 3000; i++) root.write(`many/some-quite-long-name-${i}.html`, '');
  assert.ok(costOf(() => near(root.path, '/many/some-quite-lnog-name-77.html')) < 1_000);
});

test('a path of thousands of folders that are not there costs nothing', () => {
  using root = folder({ 'a.txt': '' });
  const raw = `/${'%C3%A4/'.repeat(2000)}`;
  const cost = costOf(() => {
    lookUp(root.path, raw);
    near(root.path, raw);
  });
  assert.ok(cost < 500);
});

test.run();
