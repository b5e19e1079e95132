// The texts that events carry: what a GET would give, small, whole, and the same in a page as behind a link.

import { mkdirSync, symlinkSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { start } from '../src/index.ts';
import { createTexts, textOf } from '../src/texts.ts';
import { folder, openStream, until } from './harness.ts';

const sheets: [name: string, text: string | Uint8Array, expected: boolean][] = [
  ['rules', 'a { color: red }', true],
  ['what build tools escape', '.sm\\:p-4\\/2 { --x: "é" }', true],
  ['a character set that is so', '@charset "UTF-8"; a {}', true],
  ['names with a word in them', '.curl, #src { background-image: none }', true],
  ['a comment at its end', 'a {} /* b */ \n', true],
  ['half a rule', 'a {} b { color: re', false],
  ['blank text', ' \n', false],
  ['an import', '@import "b.css"; a {}', false],
  ['a namespace', '@namespace svg "http://www.w3.org/2000/svg";', false],
  ['another character set', '@charset "latin1"; a {}', false],
  ['an address', 'a { background: URL( x.png ) }', false],
  ['the address of a set', 'a { background: image-set("x.png" 1x) }', false],
  ['an address in disguise', 'a { background: \\75rl(x.png) }', false],
  ['an address in another disguise', 'a { background: u\\rl(x.png) }', false],
  ['bytes that are no UTF-8', Buffer.from('a::after { content: "\xe9" }', 'latin1'), false],
];

for (const [name, text, expected] of sheets) {
  test(`textOf() of a stylesheet with ${name} is ${expected ? 'its text' : 'nothing'}`, () => {
    assert.is(textOf(Buffer.from(text), '/a.css'), expected ? String(text) : undefined);
  });
}

test('textOf() leaves a byte order mark out, and lets a page have addresses, but an end', () => {
  assert.is(textOf(Buffer.from('\ufeffa {}'), '/a.css'), 'a {}');
  const page = '<style>a { background: url(x) }</style></BODY>\n';
  assert.is(textOf(Buffer.from(page), '/a.html'), page);
  assert.is(textOf(Buffer.from(page.slice(0, -3)), '/a.html'), undefined);
});

const soon = () => Promise.resolve(true);

test('createTexts() reads what a GET would give, and nothing else', async () => {
  using outside = folder({ 'secret.css': 'a {}' });
  using site = folder({
    'a.css': 'a {}',
    'b c.css': 'b {}',
    'index.html': '<p>x</html>',
    '.hidden.css': 'a {}',
    'x.txt': 'x',
    'key.css': 'a {}',
  });
  symlinkSync(outside.file('secret.css'), site.file('link.css'));
  mkdirSync(site.file('folder.css'));
  const texts = createTexts(site.path, { secret: [site.file('key.css')] }, soon);
  assert.equal(await texts(['/a.css', '/b%20c.css', '/index.html'], 1), {
    '/a.css': 'a {}',
    '/b%20c.css': 'b {}',
    '/index.html': '<p>x</html>',
  });
  const others = [
    '/.hidden.css',
    '/link.css',
    '/folder.css',
    '/key.css',
    '/x.txt',
    '/../a.css',
    '/gone.css',
    '/',
  ];
  for (const path of others) assert.is(await texts([path], 1), undefined, path);
  assert.is(await texts(['/a.css', '/gone.css'], 1), undefined);
  assert.is(await texts([], 1), undefined);
});

test('createTexts() leaves to a fetch what is much, for many, or about to be saved again', async () => {
  const [half, whole] = ['}'.repeat(16 * 1024), '}'.repeat(32 * 1024)];
  using site = folder({ 'a.css': half, 'b.css': half, 'c.css': whole, 'd.css': `${whole}}`, 'e.css': '}' });
  const texts = createTexts(site.path, {}, soon);
  assert.is((await texts(['/c.css'], 128))?.['/c.css']?.length, 32 * 1024);
  assert.is(await texts(['/c.css'], 129), undefined);
  assert.is(await texts(['/d.css'], 1), undefined);
  assert.is(Object.keys((await texts(['/a.css', '/b.css'], 1)) ?? {}).length, 2);
  assert.is(await texts(['/a.css', '/b.css', '/e.css'], 1), undefined);
  assert.is(texts(['/e.css'], 0), undefined);
  for (const settled of [() => new Promise<boolean>(() => {}), () => Promise.resolve(false)]) {
    assert.is(await createTexts(site.path, {}, settled)(['/e.css'], 1), undefined);
  }
});

test('texts go to those who ask for them, at once, and to no other origin', async () => {
  using site = folder({ 'a.css': 'a{}', 'index.html': '<p>1</html>' });
  await using server = await start({ root: site.path, port: 0, cors: ['http://other.example'] });
  const url = `${server.url}__events`;
  using asking = await openStream(`${url}?texts&lastEventId=`);
  using plain = await openStream(url);
  using foreign = await openStream(`${url}?texts`, { origin: 'http://other.example' });
  await until('three clients', () => server.clients === 3);
  site.write('a.css', 'b{}');
  const { id, data } = await asking.next('css');
  assert.is(data, '{"paths":["/a.css"],"texts":{"/a.css":"b{}"}}');
  assert.is((await plain.next('css')).data, '{"paths":["/a.css"]}');
  assert.is((await foreign.next('css')).data, '{"paths":["/a.css"]}');
  site.write('index.html', '<p>2</html>');
  assert.is(
    (await asking.next('reload')).data,
    '{"paths":["/index.html"],"texts":{"/index.html":"<p>2</html>"}}',
  );
  // Who comes later fetches.
  using late = await openStream(`${url}?texts&lastEventId=${id?.replace(/\d+$/, '0')}`);
  assert.is((await late.next('css')).data, '{"paths":["/a.css"]}');
});

test('what else is told does not wait for texts, and nothing is told out of turn', async () => {
  using site = folder({ 'a.css': 'a{}' });
  await using server = await start({ root: site.path, port: 0 });
  using stream = await openStream(`${server.url}__events?texts`);
  await stream.next('hello');
  server.on('change', () => {
    server.send('mine', 1);
    server.reload('/x.html');
  });
  site.write('a.css', 'b{}');
  await stream.next('reload');
  const told = stream.events
    .filter(({ type }) => type !== 'hello')
    .map(({ type, data }) => `${type} ${data}`);
  assert.equal(told, ['css {"paths":["/a.css"]}', 'mine 1', 'reload {"paths":["/x.html"]}']);
});

for (const [name, options] of [
  ['middleware', { middleware: [(_req: unknown, _res: unknown, next: () => void) => next()] }],
  ['a back end', { proxy: { '/api': 'http://127.0.0.1:1' } }],
  ['a policy', { headers: { 'content-security-policy': "style-src 'self'" } }],
] as const) {
  test(`with ${name} no event carries texts`, async () => {
    using site = folder({ 'a.css': 'a{}' });
    await using server = await start({ root: site.path, port: 0, ...options });
    using stream = await openStream(`${server.url}__events?texts`);
    site.write('a.css', 'b{}');
    assert.is((await stream.next('css')).data, '{"paths":["/a.css"]}');
  });
}

test.run();
