/** Chats in the browser's own database: chats, their turns with files, and their answers, which change as they grow. */

const STORES = { chats: "id", turns: "id", answers: "turn" };
const INDEXES = { turns: "chat" };

/** The database; one in memory where the browser keeps none. */
export async function openStore() {
  try {
    return new Database(await opened());
  } catch {
    return new Memory();
  }
}

function opened() {
  const request = indexedDB.open("sambung-playground", 1);
  request.onupgradeneeded = () => {
    for (const [name, keyPath] of Object.entries(STORES)) {
      const store = request.result.createObjectStore(name, { keyPath });
      if (INDEXES[name]) store.createIndex(INDEXES[name], INDEXES[name]);
    }
  };
  return done(request);
}

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = request.onblocked = () => reject(request.error);
  });

class Database {
  isKept = true;
  #database;

  constructor(database) {
    this.#database = database;
    // Another tab has a newer page: it may change the database.
    database.onversionchange = () => database.close();
  }

  #in(name, mode) {
    return this.#database.transaction(name, mode).objectStore(name);
  }

  get = (name, key) => done(this.#in(name, "readonly").get(key));
  all = (name) => done(this.#in(name, "readonly").getAll());
  put = (name, record) => done(this.#in(name, "readwrite").put(record));
  remove = (name, key) => done(this.#in(name, "readwrite").delete(key));
  turnsOf = (chatId) => done(this.#in("turns", "readonly").index("chat").getAll(chatId));
}

class Memory {
  isKept = false;
  #stores = Object.fromEntries(Object.keys(STORES).map((name) => [name, new Map()]));

  get = async (name, key) => this.#stores[name].get(key);
  all = async (name) => [...this.#stores[name].values()];
  put = async (name, record) => this.#stores[name].set(record[STORES[name]], record);
  remove = async (name, key) => this.#stores[name].delete(key);
  turnsOf = async (chatId) => (await this.all("turns")).filter((turn) => turn.chat === chatId);
}
