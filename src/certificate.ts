// The option https → a key and a certificate to listen with: those given, those in the files named, or a pair that is made
// for this machine and remembered. The only file that knows node-forge.

import { createHash, createPrivateKey, generateKeyPair, randomBytes, X509Certificate } from 'node:crypto';
import { chmod, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { isIP } from 'node:net';
import { homedir, networkInterfaces } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { createSecureContext } from 'node:tls';
import { promisify } from 'node:util';

/** A private key and its certificate (or chain): PEM, or the path of a file that holds it. */
export interface Credentials {
  readonly key: string | Buffer;
  readonly cert: string | Buffer;
}

/** What to listen with, as PEM. */
export interface Identity extends Credentials {
  /** Absolute paths of the files that it came from. */
  readonly files: readonly string[];
}

const DAY = 24 * 60 * 60 * 1000;
/** Days that a certificate of ours is good for; Apple's systems refuse more than 825. */
const LIFETIME = 365;
/** Days before its end at which it is replaced. */
const MARGIN = 30;

/**
 * Reads a key and a certificate, and makes sure that one can listen with them.
 * @throws {Error} in words for the user: a file that cannot be read, no PEM, or two that do not belong together
 */
export async function readCredentials({ key, cert }: Credentials): Promise<Identity> {
  const [keyName, certName] = [nameOf('key', key), nameOf('certificate', cert)];
  const pem = { key: await readPem(keyName, key), cert: await readPem(certName, cert) };
  const secret = attempt(keyName, () => createPrivateKey(pem.key));
  const certificate = attempt(certName, () => new X509Certificate(pem.cert));
  if (!certificate.checkPrivateKey(secret)) {
    throw new Error(
      `Cannot use ${certName} with ${keyName}: they do not belong together. Give the key that it was made for`,
    );
  }
  attempt(certName, () => createSecureContext(pem));
  return { ...pem, files: [key, cert].filter(isPath).map((file) => resolve(file)) };
}

function isPath(source: string | Buffer): source is string {
  return typeof source === 'string' && !source.includes('-----BEGIN');
}

function nameOf(kind: string, source: string | Buffer): string {
  return isPath(source) ? `the ${kind} "${source}"` : `the ${kind} given`;
}

async function readPem(name: string, source: string | Buffer): Promise<string | Buffer> {
  if (!isPath(source)) return source;
  return readFile(source).catch((cause: NodeJS.ErrnoException) => {
    const reasons: Record<string, string> = {
      ENOENT: 'there is no such file. Check the path',
      EISDIR: 'it is a folder. Give the file',
      EACCES: 'the system does not allow it. Look at its permissions',
    };
    throw new Error(`Cannot read ${name}: ${reasons[cause.code ?? ''] ?? cause.code}`, { cause });
  });
}

function attempt<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const { code = '', message = '' } = error as NodeJS.ErrnoException;
    const reason = /PASSPHRASE|INTERRUPTED_OR_CANCELLED/.test(code)
      ? 'it has a passphrase. Give one without: openssl pkey -in <file> -out <other file>'
      : /too small/.test(message)
        ? 'it is too short to be safe. Make a new one, of 2048 bits or more'
        : 'it is none in PEM form, which begins with -----BEGIN';
    throw new Error(`Cannot use ${name}: ${reason}`, { cause: error });
  }
}

/** The names a certificate for a server on this host needs; `true` is every address of the machine. */
export function namesFor(host: string | true, allowedHosts: readonly string[] = []): readonly string[] {
  const isEverywhere = host === true || host === '0.0.0.0' || host === '::';
  const addresses = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []);
  const bound = isEverywhere
    ? addresses.filter(({ internal, scopeid }) => !internal && !scopeid).map(({ address }) => address)
    : [host];
  const allowed = allowedHosts.flatMap((name) => (name.startsWith('.') ? [name.slice(1), `*${name}`] : name));
  return [...new Set(['localhost', '*.localhost', '127.0.0.1', '::1', ...bound.sort(), ...allowed])];
}

/**
 * A self-signed certificate for these names: the one remembered in the user's cache folder, or a new one if there is none
 * or its end is near. A new one has to be accepted in the browser again.
 * @param onNotice hears why it could not be remembered
 */
export async function selfSigned(
  names: readonly string[],
  { folder = cacheFolder(), onNotice = (_line: string) => {} } = {},
): Promise<Identity> {
  const hash = createHash('sha256').update(names.join('\n')).digest('hex').slice(0, 16);
  const file = join(folder, `${hash}.pem`);
  const known = await readFile(file, 'utf8').catch(() => ''); // there is none yet, or none for us
  if (isGood(known)) return { key: known, cert: known, files: [file] };
  const pem = await issue(names);
  try {
    await remember(file, folder, pem);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    onNotice(`Cannot remember the certificate in "${folder}" (${code}): browsers will ask again next time`);
  }
  return { key: pem, cert: pem, files: [file] };
}

/** Where programs of this user keep what they can make again: XDG_CACHE_HOME, or the platform's own place. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env, platform = process.platform): string {
  const xdg = env.XDG_CACHE_HOME ?? '';
  if (isAbsolute(xdg)) return join(xdg, 'live-sse');
  if (platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'live-sse');
  if (platform === 'win32' && env.LOCALAPPDATA) return join(env.LOCALAPPDATA, 'live-sse', 'Cache');
  return join(homedir(), '.cache', 'live-sse');
}

function isGood(pem: string): boolean {
  try {
    const certificate = new X509Certificate(pem);
    const left = Date.parse(certificate.validTo) - Date.now();
    return left > MARGIN * DAY && certificate.checkPrivateKey(createPrivateKey(pem));
  } catch {
    return false; // damaged: it is made anew
  }
}

/** For this user alone, and whole at each moment: two servers may start at once. */
async function remember(file: string, folder: string, pem: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const draft = `${file}.${randomBytes(6).toString('hex')}`;
  await writeFile(draft, pem, { mode: 0o600, flag: 'wx' });
  await chmod(draft, 0o600); // whatever the umask
  await rename(draft, file);
}

/** A new key and a certificate that it has signed itself, in one PEM text. */
async function issue(names: readonly string[]): Promise<string> {
  const [{ default: forge }, pair] = await Promise.all([
    import('node-forge'),
    promisify(generateKeyPair)('rsa', {
      modulusLength: 2048,
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    }),
  ]);
  const certificate = forge.pki.createCertificate();
  certificate.publicKey = forge.pki.publicKeyFromPem(pair.publicKey);
  certificate.serialNumber = `01${randomBytes(15).toString('hex')}`; // Firefox refuses a second one of the same number
  certificate.validity.notBefore = new Date(Date.now() - DAY); // clocks differ
  certificate.validity.notAfter = new Date(Date.now() + LIFETIME * DAY);
  const subject = [
    { name: 'commonName', value: 'localhost' },
    { name: 'organizationName', value: 'live-sse' },
  ];
  certificate.setSubject(subject);
  certificate.setIssuer(subject);
  certificate.setExtensions([
    { name: 'basicConstraints', cA: false, critical: true },
    { name: 'keyUsage', digitalSignature: true, keyEncipherment: true, critical: true },
    { name: 'extKeyUsage', serverAuth: true },
    {
      name: 'subjectAltName',
      altNames: names.map((name) => (isIP(name) ? { type: 7, ip: name } : { type: 2, value: name })),
    },
  ]);
  certificate.sign(forge.pki.privateKeyFromPem(pair.privateKey), forge.md.sha256.create());
  return pair.privateKey + forge.pki.certificateToPem(certificate);
}
