/**
 * Chooses the side of a two-way call, slot a or b, for a page. Both sides have the
 * same link, and each slot is a mailbox. A page that reloads takes its own slot
 * again. A page that is new to the room takes a free one and replaces no other page.
 */

/**
 * @typedef {import('./stream-inbox.js').StreamInbox} Inbox
 * @typedef {import('./room.js').Slot} Slot
 * @typedef {{slot: Slot, inbox: Inbox}} Place a slot with its inbox, which polls
 */

/**
 * Takes a slot, and returns null if other devices have both. Two pages that do this
 * at the same time get different slots, because the server lets only one of them
 * resume a mailbox.
 *
 * The page that made the room takes slot a without asking, as no other page has the
 * link yet. All others look for b first, so that the usual two meet no taken slot:
 * browsers log the refusal to their console. If a private server refuses the page, it gets a
 * slot with an inbox that says so.
 * @param {object} options
 * @param {(slot: Slot) => Promise<Inbox>} options.createInbox
 * @param {Slot | null} options.own the slot of an earlier load of this page
 * @param {boolean} options.made whether this page made the room
 * @returns {Promise<Place | null>}
 */
export async function takeFreeSlot({createInbox, own, made}) {
  if (own || made) return takeSlot(createInbox, own ?? 'a');
  for (const slot of /** @type {Slot[]} */ (['b', 'a'])) {
    const inbox = await createInbox(slot);
    if (await inbox.start({resume: true}) || inbox.status === 'refused') return {slot, inbox};
    inbox.close();
  }
  return null;
}

/**
 * Tries again and again to take a free slot, as long as both are taken. One attempt runs at
 * a time: an attempt lasts as long as the server cannot be reached. Returns a function that
 * starts no more attempts.
 * @param {(slot: Slot) => Promise<Inbox>} createInbox
 * @param {(place: Place | null) => void} use gets the result of each attempt
 * @param {number} interval milliseconds
 */
export function retryFreeSlot(createInbox, use, interval) {
  let busy = false;
  const timer = setInterval(async () => {
    if (busy) return;
    busy = true;
    use(await takeFreeSlot({createInbox, own: null, made: false}));
    busy = false;
  }, interval);
  return () => clearInterval(timer);
}

/**
 * Takes a slot over from the page that has it.
 * @param {(slot: Slot) => Promise<Inbox>} createInbox
 * @param {Slot} slot
 * @returns {Promise<Place>}
 */
export async function takeSlot(createInbox, slot) {
  const inbox = await createInbox(slot);
  void inbox.start();
  return {slot, inbox};
}

/**
 * SlotMemory keeps the slot of a page across reloads. Browsers that block storage
 * throw on access; a reload then takes a free slot.
 */
export class SlotMemory {
  #key;
  #storage;

  /**
   * @param {string} room the id of the room
   * @param {() => Storage} [storage]
   */
  constructor(room, storage = () => sessionStorage) {
    this.#key = `slot ${room}`;
    this.#storage = storage;
  }

  /** @returns {Slot | null} */
  get() {
    const slot = this.#try(storage => storage.getItem(this.#key));
    return slot === 'a' || slot === 'b' ? slot : null;
  }

  /** @param {Slot | null} slot null forgets it */
  set(slot) {
    this.#try(storage => slot ? storage.setItem(this.#key, slot) : storage.removeItem(this.#key));
  }

  /**
   * @template T
   * @param {(storage: Storage) => T} use
   */
  #try(use) {
    try {
      return use(this.#storage());
    } catch {
      return null; // storage is blocked
    }
  }
}
