// A client of WebDriver (https://www.w3.org/TR/webdriver2/): one session, whose commands go out one after another,
// each to the window it is for.

/** A session of a driver. */
export interface Session {
  /** Opens a window, and gives its handle. */
  open(): Promise<string>;
  /** A command for this window. */
  to(window: string, method: Method, path: string, body?: object): Promise<unknown>;
  end(): Promise<void>;
}

type Method = 'GET' | 'POST' | 'DELETE';

async function send(url: string, method: Method, body?: object): Promise<unknown> {
  const response = await fetch(url, { method, ...(body && { body: JSON.stringify(body) }) });
  const { value } = (await response.json()) as { value: unknown };
  if (response.ok) return value;
  const { error, message } = value as { error: string; message: string };
  throw new Error(`${method} ${url.replace(/.*\/session\/[^/]*/, '')}: ${error}: ${message}`);
}

/** Starts a session with these capabilities at the driver that listens at `base`. */
export async function newSession(base: string, alwaysMatch: object): Promise<Session> {
  const { sessionId } = (await send(`${base}/session`, 'POST', { capabilities: { alwaysMatch } })) as {
    sessionId: string;
  };
  const url = `${base}/session/${sessionId}`;
  let last: Promise<unknown> = Promise.resolve();
  let current = '';
  const queue = <T>(act: () => Promise<T>): Promise<T> => {
    const result = last.then(act);
    last = result.catch(() => {}); // whoever asked hears of it
    return result;
  };
  // The session ends with its last window: the first one stays.
  const first = (await send(`${url}/window`, 'GET')) as string;
  const to: Session['to'] = (window, method, path, body) =>
    queue(async () => {
      if (current !== window) await send(`${url}/window`, 'POST', { handle: window });
      current = method === 'DELETE' && path === '/window' ? '' : window;
      return send(url + path, method, body);
    });
  return {
    to,
    open: async () => {
      const { handle } = (await to(first, 'POST', '/window/new', { type: 'window' })) as { handle: string };
      return handle;
    },
    end: async () => {
      await queue(() => send(url, 'DELETE'));
    },
  };
}
