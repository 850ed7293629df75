/** What `body` prints on standard error through Node. It is printed nowhere else. */
export async function stderrOf(body: () => Promise<void>): Promise<string> {
  const write = process.stderr.write;
  let text = "";
  process.stderr.write = (chunk: string | Uint8Array): boolean => {
    text += String(chunk);
    return true;
  };
  try {
    await body();
  } finally {
    process.stderr.write = write;
  }
  return text;
}
