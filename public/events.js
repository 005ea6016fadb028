/** Events, timers and promises that end together: with a signal. */

/**
 * The types of the events of a class that extends EventTarget.
 * @template {Record<string, Event>} M the events by their types
 * @typedef {{
 *   addEventListener<K extends keyof M & string>(type: K, listener: (event: M[K]) => void, options?: AddEventListenerOptions | boolean): void;
 *   addEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: AddEventListenerOptions | boolean): void;
 *   removeEventListener<K extends keyof M & string>(type: K, listener: (event: M[K]) => void, options?: EventListenerOptions | boolean): void;
 *   removeEventListener(type: string, listener: EventListenerOrEventListenerObject | null, options?: EventListenerOptions | boolean): void;
 *   dispatchEvent(event: Event): boolean;
 * }} TypedEvents
 */

/**
 * @template {Record<string, Event>} M
 * @typedef {new () => TypedEvents<M>} TypedTarget
 */

/**
 * @template {string} S the states
 * @template {Record<string, Event>} M
 * @typedef {new () => TypedEvents<M> & {readonly state: S, setState(state: S): void}} TypedStateful
 */

/**
 * Dispatches an event with a detail.
 * @param {{dispatchEvent(event: Event): boolean}} target
 * @param {string} type
 * @param {unknown} detail
 */
export function emit(target, type, detail) {
  target.dispatchEvent(new CustomEvent(type, {detail}));
}

/**
 * StatefulTarget has a state until it is closed. Event:
 * - state: the new state
 * @template {string} S
 */
export class StatefulTarget extends EventTarget {
  /** @type {S | 'connecting' | 'closed'} */
  #state = 'connecting';

  get state() {
    return this.#state;
  }

  /** @param {S | 'closed'} state @internal */
  setState(state) {
    if (this.#state === state || this.#state === 'closed') return;
    this.#state = state;
    emit(this, 'state', state);
  }
}

/**
 * Adds a listener that the signal removes. A target that the platform does not have is skipped.
 * @param {any} target
 * @param {string} type
 * @param {(event: any) => void} listener
 * @param {AbortSignal} [signal]
 */
export function on(target, type, listener, signal) {
  target?.addEventListener?.(type, listener, {signal});
}

/**
 * Calls a listener with the reason when a signal is aborted, or at once if it is.
 * @param {AbortSignal | undefined} aborted
 * @param {(reason: any) => void} listener
 * @param {AbortSignal} [signal] removes the listener
 */
export function onAbort(aborted, listener, signal) {
  if (aborted?.aborted) listener(aborted.reason);
  else on(aborted, 'abort', () => listener(aborted?.reason), signal);
}

/**
 * Calls a function after a time, unless the signal is aborted before.
 * @param {number} milliseconds
 * @param {() => void} call
 * @param {AbortSignal} signal
 */
export function after(milliseconds, call, signal) {
  const timer = setTimeout(call, milliseconds);
  on(signal, 'abort', () => clearTimeout(timer));
}

/**
 * Returns a promise. The signal of its executor is aborted when it is settled.
 * @template [T=void]
 * @param {(resolve: (value: T) => void, reject: (reason: unknown) => void, signal: AbortSignal) => void} executor
 * @returns {Promise<T>}
 */
export function until(executor) {
  const scope = new AbortController();
  return new Promise((resolve, reject) => {
    executor(resolve, reject, scope.signal);
  }).finally(() => scope.abort());
}

/**
 * Resolves after a time, or when a signal is aborted.
 * @param {number} milliseconds
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export function pause(milliseconds, signal) {
  return until((resolve, _reject, scope) => {
    after(milliseconds, resolve, scope);
    onAbort(signal, resolve, scope);
  });
}

/**
 * Returns a function that runs tasks one after the other, and returns what each promises.
 * @returns {<T>(task: () => T | Promise<T>) => Promise<T>}
 */
export function serial() {
  /** @type {Promise<any>} */
  let last = Promise.resolve();
  return task => {
    const result = last.then(task);
    last = result.catch(() => {});
    return result;
  };
}

/**
 * Returns a promise with the functions that settle it.
 * @template T
 * @returns {{promise: Promise<T>, resolve: (value: T | PromiseLike<T>) => void, reject: (reason: unknown) => void}}
 */
export function defer() {
  let settle = /** @type {any} */ (null);
  const promise = /** @type {Promise<T>} */ (new Promise((resolve, reject) => { settle = {resolve, reject}; }));
  return {promise, ...settle};
}

/**
 * Resolves or rejects as a promise, or rejects when a signal is aborted.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export function unlessAborted(promise, signal) {
  return until((resolve, reject, scope) => {
    onAbort(signal, reject, scope);
    promise.then(resolve, reject);
  });
}
