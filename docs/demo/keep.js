// Keeps the page for later, without network: the service worker fetches all files once, and answers with them.

// Resolves when all files are kept; `progress` gets the bytes fetched so far. Throws with the reason where they cannot be.
export async function keep(progress) {
  if (!("serviceWorker" in navigator)) {
    throw new Error(self.isSecureContext ? "this browser keeps no pages" : "browsers keep pages of https and localhost only");
  }
  let reason = "the browser does not say why";
  navigator.serviceWorker.addEventListener("message", ({ data }) => {
    if (data.loaded !== undefined) progress(data.loaded);
    if (data.error !== undefined) reason = data.error;
  });
  navigator.serviceWorker.startMessages();
  const registration = await navigator.serviceWorker.register("service-worker.js", { updateViaCache: "none" });
  if (registration.active !== null) return;
  const worker = registration.installing ?? registration.waiting;
  await new Promise((resolve, reject) => {
    const look = () => {
      if (worker.state === "activated") resolve();
      if (worker.state === "redundant") reject(new Error(reason));
    };
    worker.addEventListener("statechange", look);
    look();
  });
}
