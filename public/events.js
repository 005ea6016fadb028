/**
 * The types of classes that extend EventTarget and have events of their own. This module
 * has no code.
 */

/**
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

export {};
