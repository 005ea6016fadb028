/** Notices that connections can be dead, because a page or a device has slept. */

import {on} from './events.js';

/** Age in milliseconds of a request that is repeated when the page becomes active, or is online again. */
const MIN_AGE_ACTIVE = 3_000;
const MIN_AGE_ONLINE = 500;

/**
 * Calls a listener when the page becomes active again or the device comes back
 * online: its connections can be dead without notice, if they are older than minAge
 * milliseconds.
 * @param {(online: boolean, minAge: number) => void} listener
 * @param {AbortSignal} signal removes the listener
 */
export function onWake(listener, signal) {
  const {document} = globalThis;
  const onActive = () => document?.visibilityState !== 'hidden' && listener(false, MIN_AGE_ACTIVE);
  on(globalThis, 'online', () => listener(true, MIN_AGE_ONLINE), signal);
  on(globalThis, 'pageshow', onActive, signal);
  on(document, 'visibilitychange', onActive, signal);
  on(document, 'resume', onActive, signal);
}
