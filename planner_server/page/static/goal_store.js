// Saved lists of goals, by name, in this browser's own database: pictures are too large for localStorage.

const DATABASE = "planner-goals";
const TABLE = "sets";

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "name" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function run(mode, work) {
  const database = await open();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = database.transaction(TABLE, mode);
      const request = work(transaction.objectStore(TABLE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = () => reject(transaction.error);
    });
  } finally { database.close(); }
}

export const saveSet = (name, goals) => run("readwrite", (table) => table.put({ name, goals, savedAt: Date.now() }));
export const listSets = () => run("readonly", (table) => table.getAll());
export const deleteSet = (name) => run("readwrite", (table) => table.delete(name));
