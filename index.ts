export = async () => ({});
