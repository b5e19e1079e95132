import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { cacheFolder, namesFor, readCredentials, selfSigned } from '../src/certificate.ts';
import { folder } from './harness.ts';

using shared = folder();
const names = ['localhost', '*.localhost', '127.0.0.1', '::1'];
const pem = String((await selfSigned(names, { folder: shared.path })).key);
const [key = ''] = /-----BEGIN PRIVATE KEY[\s\S]+?-----END PRIVATE KEY-----/.exec(pem) ?? [];
const [cert = ''] = /-----BEGIN CERTIFICATE[\s\S]+?-----END CERTIFICATE-----/.exec(pem) ?? [];

const messageOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'nothing was wrong',
    (error: Error) => error.message,
  );

test('selfSigned() is good for a year, for its names, and can be trusted as it is', () => {
  const certificate = new X509Certificate(pem);
  assert.ok(certificate.checkHost('localhost'));
  assert.match(certificate.subjectAltName ?? '', /DNS:\*\.localhost/); // OpenSSL itself takes no wildcard of one dot
  for (const address of ['127.0.0.1', '::1']) assert.ok(certificate.checkIP(address), address);
  assert.is(certificate.checkHost('example.com'), undefined);
  assert.is(certificate.ca, false);
  assert.equal(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1']); // TLS server
  assert.ok(certificate.checkPrivateKey(createPrivateKey(pem)));
  assert.ok(certificate.verify(certificate.publicKey));
  const days = (Date.parse(certificate.validTo) - Date.now()) / 86_400_000;
  assert.ok(days > 360 && days < 398, String(days));
  assert.ok(Date.parse(certificate.validFrom) < Date.now());
});

test('selfSigned() remembers it for this user alone', async () => {
  using home = folder();
  const cache = home.file('deep/cache');
  const first = await selfSigned(names, { folder: cache });
  const [file = ''] = readdirSync(cache);
  assert.equal(first.files, [join(cache, file)]);
  if (process.platform !== 'win32') {
    assert.is(statSync(cache).mode & 0o777, 0o700);
    assert.is(statSync(join(cache, file)).mode & 0o777, 0o600);
  }
  assert.equal(await selfSigned(names, { folder: cache }), first);
  const other = await selfSigned([...names, '192.0.2.1'], { folder: cache });
  assert.is.not(other.key, first.key);
  assert.ok(new X509Certificate(other.cert).checkIP('192.0.2.1'));
  assert.is(readdirSync(cache).length, 2);
});

test('selfSigned() makes a new one when the one it remembers is damaged or near its end', async () => {
  using home = folder();
  const first = await selfSigned(names, { folder: home.path });
  const [file = ''] = first.files;
  writeFileSync(file, String(first.key).slice(0, 2000));
  const second = await selfSigned(names, { folder: home.path });
  assert.is.not(second.key, first.key);
  assert.is(readFileSync(file, 'utf8'), second.key);
  const { now } = Date;
  try {
    Date.now = () => now() + 330 * 86_400_000; // it has 35 days left
    assert.is((await selfSigned(names, { folder: home.path })).key, second.key);
    Date.now = () => now() + 340 * 86_400_000;
    assert.is.not((await selfSigned(names, { folder: home.path })).key, second.key);
  } finally {
    Date.now = now;
  }
});

test('selfSigned() that cannot be remembered says so, and is there all the same', async () => {
  using home = folder({ file: '' });
  const lines: string[] = [];
  const { cert } = await selfSigned(names, {
    folder: home.file('file/cache'),
    onNotice: (line) => lines.push(line),
  });
  assert.ok(new X509Certificate(cert));
  assert.is(lines.length, 1);
  assert.match(lines[0] ?? '', /^Cannot remember the certificate in ".*file\/cache" \(E\w+\): /);
});

test('two selfSigned() at once leave one whole file', async () => {
  using home = folder();
  await Promise.all([selfSigned(names, { folder: home.path }), selfSigned(names, { folder: home.path })]);
  assert.is(readdirSync(home.path).length, 1);
  const known = await selfSigned(names, { folder: home.path });
  assert.is(known.key, readFileSync(join(home.path, readdirSync(home.path)[0] ?? ''), 'utf8'));
});

test('namesFor() has this machine’s own names, the host bound and the hosts allowed', () => {
  assert.equal(namesFor('localhost'), names);
  assert.equal(namesFor('192.0.2.7'), [...names, '192.0.2.7']);
  assert.equal(namesFor('mybox.local', ['.example.test', 'a.test']), [
    ...names,
    'mybox.local',
    'example.test',
    '*.example.test',
    'a.test',
  ]);
  for (const host of [true, '0.0.0.0', '::'] as const) assert.not.ok(namesFor(host).includes(String(host)));
});

test('cacheFolder() is the user’s', () => {
  const rows: [env: NodeJS.ProcessEnv, platform: NodeJS.Platform, expected: RegExp][] = [
    [{ XDG_CACHE_HOME: '/x' }, 'linux', /^\/x\/live-sse$/],
    [{ XDG_CACHE_HOME: 'relative' }, 'linux', /^\/.*\/\.cache\/live-sse$/],
    [{}, 'linux', /^\/.*\/\.cache\/live-sse$/],
    [{}, 'darwin', /\/Library\/Caches\/live-sse$/],
    [{ LOCALAPPDATA: '/local' }, 'win32', /^\/local\/live-sse\/Cache$/],
  ];
  for (const [env, platform, expected] of rows) assert.match(cacheFolder(env, platform), expected);
});

test('readCredentials() takes PEM, as text or bytes, and the paths of files', async () => {
  using home = folder({ 'key.pem': key, 'cert.pem': cert });
  assert.equal(await readCredentials({ key, cert: Buffer.from(cert) }), {
    key,
    cert: Buffer.from(cert),
    files: [],
  });
  const files = [home.file('key.pem'), home.file('cert.pem')] as const;
  assert.equal(await readCredentials({ key: files[0], cert: files[1] }), {
    key: Buffer.from(key),
    cert: Buffer.from(cert),
    files,
  });
});

test('readCredentials() says in one line what is wrong', async () => {
  using home = folder({ 'cert.pem': cert, 'empty.pem': '', 'text.pem': 'no certificate', 'key.pem': key });
  using another = folder();
  const other = await selfSigned(names, { folder: another.path });
  const locked = createPrivateKey(key).export({
    type: 'pkcs8',
    format: 'pem',
    cipher: 'aes-256-cbc',
    passphrase: 'x',
  });
  const rows: [given: { key: string | Buffer; cert: string | Buffer }, expected: RegExp][] = [
    [{ key: home.file('no.pem'), cert }, /^Cannot read the key ".*no\.pem": there is no such file\. Check/],
    [{ key, cert: home.path }, /^Cannot read the certificate ".*": it is a folder\. Give the file$/],
    [{ key: home.file('empty.pem'), cert }, /^Cannot use the key ".*empty\.pem": it is none in PEM form/],
    [{ key, cert: home.file('text.pem') }, /^Cannot use the certificate ".*text\.pem": it is none in PEM/],
    [{ key: cert, cert }, /^Cannot use the key given: it is none in PEM form/],
    [{ key, cert: key }, /^Cannot use the certificate given: it is none in PEM form/],
    [{ key: Buffer.from(locked), cert }, /^Cannot use the key given: it has a passphrase\. Give one without/],
    [
      { key: other.key, cert: home.file('cert.pem') },
      /^Cannot use the certificate ".*cert\.pem" with the key given: they do not belong together\. /,
    ],
  ];
  for (const [given, expected] of rows) assert.match(await messageOf(readCredentials(given)), expected);
});

test.run();
