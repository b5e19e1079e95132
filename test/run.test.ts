import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Failure } from '../src/events.ts';
import { createRunner, missingCommand, type Outcome, type RunOptions } from '../src/run.ts';
import { type Folder, folder, isAlive, until, within } from './harness.ts';

/** Milliseconds: many processes are started here, on a machine that may have much to do. */
const LONG = 60_000;

const node = JSON.stringify(process.execPath);
const module = JSON.stringify(new URL('../src/run.ts', import.meta.url).href);

/** A process that starts another one, both of which write down their numbers and run for ever. */
const tree = (ignored: readonly string[] = []) => `
  import { spawn } from 'node:child_process';
  import { appendFileSync } from 'node:fs';
  for (const signal of ${JSON.stringify(ignored)}) process.on(signal, () => {});
  if (process.argv[2] !== 'child') spawn(process.execPath, [import.meta.filename, 'child'], { stdio: 'inherit' });
  appendFileSync('pids', process.pid + '\\n');
  setInterval(() => {}, 1000);
`;

function pids(dir: Folder): number[] {
  if (!existsSync(dir.file('pids'))) return [];
  return readFileSync(dir.file('pids'), 'utf8').split('\n').filter(Boolean).map(Number);
}

function treeOf(dir: Folder, size = 2): Promise<number[]> {
  return until(
    `${size} processes to run`,
    () => {
      const found = pids(dir);
      return found.length >= size && found;
    },
    LONG,
  );
}

const allDead = (found: readonly number[]) =>
  until(`the processes ${found} to be dead`, () => !found.some(isAlive), LONG);

/** Runs a command once, and gives what became of it. */
async function runOnce(command: string, options: RunOptions = {}): Promise<Outcome & { output: string }> {
  let output = '';
  let outcome: Outcome | undefined;
  const runner = createRunner(command, {
    ...options,
    onOutput: (text) => {
      output += text;
    },
    onEnd: (end) => {
      outcome = end;
    },
  });
  runner.trigger();
  await within('the run to end', runner.idle, LONG);
  await runner.close();
  assert.ok(outcome, 'onEnd() was called');
  return { ...outcome, output };
}

async function failureOf(command: string, options: RunOptions = {}): Promise<Failure> {
  const outcome = await runOnce(command, options);
  if (outcome.ok) throw new Error(`${command} did not fail`);
  return outcome.failure;
}

test('createRunner() runs nothing by itself', async () => {
  using dir = folder();
  const runner = createRunner('echo 1 > first', { cwd: dir.path });
  assert.is(runner.running, false);
  await within('idle', runner.idle, LONG);
  assert.is((await runOnce('echo 2 > second', { cwd: dir.path })).ok, true);
  assert.not(existsSync(dir.file('first')));
  await runner.close();
});

test('trigger() runs the command in a shell, in `cwd`, with `env` added', async () => {
  using dir = folder({ 'a.txt': 'one\n' });
  process.env.LIVE_SSE_TEST = 'inherited';
  const env = { WORD: 'two', LIVE_SSE_TEST: undefined };
  const { ok, output } = await runOnce(`cat a.txt && echo "$WORD" "<$LIVE_SSE_TEST>"`, {
    cwd: dir.path,
    env,
  });
  delete process.env.LIVE_SSE_TEST;
  assert.equal({ ok, output }, { ok: true, output: 'one\ntwo <>\n' });
});

test('onOutput() hears each stream, every byte', async () => {
  const sizes = { stdout: 0, stderr: 0 };
  const write = 'process.stdout.write("o".repeat(3e6)); process.stderr.write("é".repeat(1e6))';
  const runner = createRunner(`${node} -e '${write}'`, {
    onOutput: (text, stream) => {
      sizes[stream] += text.length;
    },
  });
  runner.trigger();
  await within('the run to end', runner.idle, LONG);
  assert.equal(sizes, { stdout: 3e6, stderr: 2e6 });
});

test('trigger() during a run asks for one more run after it, however often', async () => {
  using dir = folder();
  const events: string[] = [];
  // The folder is there as long as a run is under way: a second one at once could not make it.
  const command = 'mkdir lock || exit 9; while [ ! -e go ]; do sleep 0.01; done; rmdir lock';
  const runner = createRunner(command, {
    cwd: dir.path,
    onStart: () => events.push('start'),
    onEnd: ({ ok }) => events.push(ok ? 'ok' : 'failed'),
  });
  runner.trigger();
  assert.is(runner.running, true);
  await until('the first run to be under way', () => existsSync(dir.file('lock')));
  for (let n = 0; n < 20; n++) runner.trigger();
  assert.equal(events, ['start']);
  dir.write('go', '');
  await within('both runs to end', runner.idle, LONG);
  assert.equal(events, ['start', 'ok', 'start', 'ok']);
  assert.is(runner.running, false);
});

test('trigger() a hundred times, at any moment, never runs twice at once and ends with a run after the last', async () => {
  using dir = folder();
  let input = 0;
  let seen = '';
  let under = 0;
  const runner = createRunner('cat input', {
    cwd: dir.path,
    onStart: () => assert.is(++under, 1),
    onEnd: () => under--,
    onOutput: (text) => {
      seen = text.toString();
    },
  });
  while (input < 100) {
    dir.write('input', `${++input}`);
    runner.trigger();
    if (input % 7 === 0) await new Promise((resolve) => setTimeout(resolve, input % 11));
  }
  await within('the runs to end', runner.idle, LONG);
  assert.is(seen, '100');
});

test('trigger() in onEnd() runs again, and `idle` waits for it', async () => {
  let ends = 0;
  const runner = createRunner('true', {
    onEnd: () => {
      if (++ends < 3) runner.trigger();
    },
  });
  runner.trigger();
  await within('the runs to end', runner.idle, LONG);
  assert.is(ends, 3);
});

test('`kill`: trigger() ends the run under way with its processes, and only the newer one is told', async () => {
  using dir = folder({ 'tree.mjs': tree(['SIGTERM']) });
  const events: string[] = [];
  const runner = createRunner(`[ -e pids ] && echo newer || ${node} tree.mjs`, {
    cwd: dir.path,
    kill: true,
    onStart: () => events.push('start'),
    onEnd: ({ ok }) => events.push(ok ? 'ok' : 'failed'),
  });
  runner.trigger();
  const old = await treeOf(dir);
  runner.trigger();
  runner.trigger();
  await within('the runs to end', runner.idle, LONG);
  await allDead(old);
  assert.equal(events, ['start', 'start', 'ok']);
});

test('onEnd() tells the exit code, the command and its output without the path of the folder', async () => {
  using dir = folder();
  const command = `echo "\x1b[31m$PWD/src/a.ts:3:7\x1b[0m: bad"; echo "in $PWD" >&2; exit 3`;
  const failure = await failureOf(command, { cwd: dir.path });
  assert.is(failure.message, `"${command}" exited with code 3`);
  assert.is(failure.command, command);
  assert.equal(failure.output?.split('\n').sort(), ['\x1b[31msrc/a.ts:3:7\x1b[0m: bad', 'in .']);
});

test('onEnd() tells the last 16 KB of a long output, from the beginning of a line', async () => {
  for (const lines of [30_000, 2100]) {
    const { output = '' } = await failureOf(
      `${node} -e 'for (let n = 1; n <= ${lines}; n++) console.log("line " + n + "é"); process.exitCode = 1'`,
    );
    const all = output.split('\n');
    assert.is(all.at(-1), `line ${lines}é`);
    assert.match(all[0] ?? '', /^line \d+é$/);
    assert.ok(Buffer.byteLength(output) <= 16_384 && Buffer.byteLength(output) > 16_000);
  }
});

const failures: [string, string, RunOptions, string][] = [
  [
    'a command that does not exist',
    'no-such-command --watch',
    {},
    'Cannot run "no-such-command --watch": "no-such-command" was not found. Install it, or check its name',
  ],
  [
    'a later command that does not exist',
    'true && ./no/such.sh',
    {},
    'Cannot run "true && ./no/such.sh": "./no/such.sh" was not found. Install it, or check its name',
  ],
  [
    'a folder that does not exist',
    'true',
    { cwd: '/no/such' },
    'Cannot run "true": its folder does not exist',
  ],
  ['a signal', 'kill -9 $$', {}, '"kill -9 $$" was ended by SIGKILL'],
  ['an exit code', 'exit 127', {}, '"exit 127" exited with code 127'],
];

for (const [name, command, options, message] of failures) {
  test(`onEnd() of ${name}`, async () => assert.is((await failureOf(command, options)).message, message));
}

test('onEnd() of a command that no shell takes', async () => {
  assert.match((await failureOf('echo \0')).message, /^Cannot run "echo \0": /);
  assert.match((await failureOf(`echo ${'x'.repeat(4e6)}`)).message, /E2BIG$/);
});

test('a run ends what the command left behind in the background', async () => {
  using dir = folder({ 'tree.mjs': tree() });
  const { ok, ms } = await runOnce(`${node} tree.mjs & while [ ! -e pids ]; do sleep 0.01; done`, {
    cwd: dir.path,
  });
  assert.is(ok, true);
  assert.ok(ms > 0);
  await allDead(pids(dir));
});

test('a run does not wait for a daemon that holds its output', async () => {
  using dir = folder({
    'daemon.mjs': `
      import { spawn } from 'node:child_process';
      import { writeFileSync } from 'node:fs';
      const { pid } = spawn('sleep', ['300'], { detached: true, stdio: 'inherit' });
      writeFileSync('pids', pid + '\\n');
      process.exit();
    `,
  });
  assert.is((await runOnce(`${node} daemon.mjs`, { cwd: dir.path })).ok, true);
  assert.is(pids(dir).length, 1);
  for (const pid of pids(dir)) {
    assert.ok(isAlive(pid));
    process.kill(pid);
  }
});

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return ''; // it has just ended
  }
}

test('a run leaves no child process and no listener', async () => {
  const listeners = process.listenerCount('exit');
  await runOnce('true');
  assert.is(process.listenerCount('exit'), listeners);
  if (process.platform !== 'linux') return;
  await until('no child', () => {
    const pids = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').split(' ').filter(Boolean);
    return pids.every((pid) => commandOf(pid).includes('esbuild') || !isAlive(Number(pid))); // tsx's own
  });
});

for (const ignored of [[], ['SIGTERM', 'SIGINT', 'SIGHUP']]) {
  test(`close() ends all processes of a run${ignored.length > 0 ? ' that ignores signals' : ''}`, async () => {
    using dir = folder({ 'tree.mjs': tree(ignored) });
    const told: Outcome[] = [];
    const runner = createRunner(`${node} tree.mjs; true`, { cwd: dir.path, onEnd: (end) => told.push(end) });
    runner.trigger();
    const found = await treeOf(dir);
    runner.trigger();
    await within('close()', Promise.all([runner.close(), runner.close()]), LONG);
    await allDead(found);
    runner.trigger();
    assert.is(runner.running, false);
    await runner.close();
    assert.equal(told, []);
  });
}

test('close() in onStart() runs nothing', async () => {
  using dir = folder();
  const runner = createRunner('touch ran', { cwd: dir.path, onStart: () => void runner.close() });
  runner.trigger();
  await within('idle', runner.idle, LONG);
  assert.is(runner.running, false);
  assert.not(existsSync(dir.file('ran')));
});

const server = (last: string) => `
  import { existsSync, readFileSync } from 'node:fs';
  import { createRunner } from ${module};
  const runner = createRunner(${JSON.stringify(`${node} tree.mjs`)});
  runner.trigger();
  const timer = setInterval(() => {
    if (!existsSync('pids') || readFileSync('pids', 'utf8').split('\\n').length < 3) return;
    clearInterval(timer);
    ${last}
  }, 5);
`;

const deaths: [string, string][] = [
  ['is killed', 'process.kill(process.pid, "SIGKILL")'],
  ['gets SIGINT', 'process.kill(process.pid, "SIGINT")'],
  ['gets SIGHUP', 'process.kill(process.pid, "SIGHUP")'],
  ['calls process.exit()', 'process.exit(3)'],
  ['throws', 'throw new Error("on purpose")'],
  ['closes', 'await runner.close()'],
];

for (const [name, last] of deaths) {
  test(`no process of a run outlives a server that ${name}`, async () => {
    const ignored = name === 'is killed' ? ['SIGTERM', 'SIGHUP'] : [];
    using dir = folder({ 'tree.mjs': tree(ignored), 'server.mjs': server(last.replace(/^await/, 'void')) });
    const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), 'server.mjs'], {
      cwd: dir.path,
      stdio: 'ignore',
    });
    await within('the server to end', new Promise((resolve) => child.on('exit', resolve)), LONG);
    const found = pids(dir);
    assert.is(found.length, 2);
    await allDead(found);
  });
}

const outputs: [shell: string, code: number, output: string, posix: boolean, expected: string | undefined][] =
  [
    ['dash', 127, 'sh: 1: nope: not found\n', true, 'nope'],
    ['bash', 127, 'bash: line 1: nope: command not found\n', true, 'nope'],
    ['bash, a file', 127, 'bash: line 1: ./nope.sh: No such file or directory\n', true, './nope.sh'],
    ['zsh of macOS', 127, 'zsh:1: command not found: nope\n', true, 'nope'],
    ['a command that speaks so itself', 1, 'x: nope: not found\n', true, undefined],
    [
      'cmd.exe',
      1,
      "'nope' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n",
      false,
      'nope',
    ],
    ['cmd.exe, another failure', 1, 'Access is denied.\r\n', false, undefined],
  ];

for (const [shell, code, output, posix, expected] of outputs) {
  test(`missingCommand() of ${shell} is ${expected}`, () =>
    assert.is(missingCommand(code, output, posix), expected));
}

test.run();
