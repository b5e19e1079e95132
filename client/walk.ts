// What a document holds, wherever in it: shadow roots, and the rules of stylesheets. And how what it loads is waited for.

/** Milliseconds after which a file that does not come is given up. */
const LIMIT = 10_000;

export interface AnyRule extends CSSRule {
  readonly style?: CSSStyleDeclaration;
  readonly cssRules?: CSSRuleList;
  readonly styleSheet?: CSSStyleSheet | null;
}

/** The document and all open shadow roots in it. */
export function* rootsOf(root: Document | ShadowRoot = document): Generator<Document | ShadowRoot> {
  yield root;
  for (const { shadowRoot } of root.querySelectorAll('*')) if (shadowRoot) yield* rootsOf(shadowRoot);
}

/** The rules of a sheet, or in a rule. */
export function rulesOf(owner: Pick<AnyRule, 'cssRules'> | null | undefined): AnyRule[] {
  try {
    return [...(owner?.cssRules ?? [])];
  } catch {
    return []; // of another origin: nothing of ours is in it
  }
}

/** Resolves when the event comes, and rejects if the element has an error instead. */
export function event(target: EventTarget, type: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    target.addEventListener(type, resolve, { once: true });
    target.addEventListener('error', reject, { once: true });
    setTimeout(reject, LIMIT);
  });
}
